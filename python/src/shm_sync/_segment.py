"""Segments: shared memory with a typed value, which a Rust program has created."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

from . import _native, _types, _views
from ._errors import NotFound
from ._types import Type

#: ``SHM_SYNC_ANY``: every user, or every group.
_ANY = 2**32 - 1


def open(
    address: str | os.PathLike[str],
    *,
    fingerprint: str | None = None,
    group: int | None = None,
    mode: int = 0o600,
) -> Segment:
    """Opens the segment ``address``, which a Rust program has created.

    ``"/jobs"`` is a POSIX object, ``"./jobs"`` or ``"/var/lib/jobs"`` a file, and
    ``"sysv:0x1234"`` a System V segment. ``fingerprint`` is what
    ``shm-sync export-c`` prints: pass it if the layout must be the one that this
    program was written for.

    The segment must belong to this user, and no other user may write to it. With
    ``group`` (a group id) and ``mode``, such as ``0o660``, it may belong to any member
    of that group: trust all of them.

    >>> with shm_sync.open(address) as segment:
    ...     with segment["pending"].lock() as data:
    ...         data.value += 1

    :raises NotFound: there is no such object.
    :raises NotASegment: it is not a segment of shm-sync.
    :raises LayoutMismatch: it has another fingerprint, format or platform.
    :raises PermissionDenied: it belongs to another user.
    :raises StaleSegment: its locks are of another boot or pid namespace.
    """
    if group is None:
        trust = (os.geteuid(), _ANY, mode)
    else:
        trust = (_ANY, group, mode)
    return Segment(_native.open_segment(os.fspath(address), -1, fingerprint, trust), trust)


def from_fd(fd: int, *, fingerprint: str | None = None) -> Segment:
    """Opens the segment behind a descriptor, such as an inherited memfd.

    The descriptor stays open and belongs to the caller.
    """
    return Segment(_native.open_segment(None, fd, fingerprint))


class Segment:
    """An open segment. This process counts as its user until it is closed.

    The value's parts are found by their path, as the tool ``shm-sync show`` prints it:
    ``segment["workers[3].lock"]``. Numbers, texts and enums are returned as they are,
    and structs, arrays, atomics and locks as views.

    A forked child may use the segment of its parent. Pickled, as an argument of a
    ``multiprocessing.Process``, a segment is its address, and the other process opens
    it.
    """

    def __init__(self, mapped: _native.Mapped, trust: tuple[int, int, int] | None = None) -> None:
        self._mapped = mapped
        self._trust = trust
        try:
            self._type = _types.parse(mapped.type_table(), int(mapped.fingerprint(), 16))
        except BaseException:
            mapped.close()
            raise
        # The value is shared with other processes, so only what is in a locked mutex
        # may be changed.
        self._access = _views.Access(mapped)

    @property
    def address(self) -> str:
        """The address by which the segment was opened."""
        return self._mapped.name

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the value's type: 32 hexadecimal digits."""
        return self._mapped.fingerprint()

    @property
    def value_type(self) -> Type:
        """The type of the value: its kind, size and fields."""
        return self._type

    @property
    def value(self) -> Any:
        """The whole value, or the lock if the value is one."""
        return _views.get(self._type, 0, self._access)

    def __getitem__(self, path: str) -> Any:
        """Returns the part of the value at ``path``.

        :raises NotFound: the value has no such part.
        """
        type_, offset = _views.find(self._type, path, self._access)
        return _views.get(type_, offset, self._access)

    def type_of(self, path: str) -> Type:
        """Returns the type of the part of the value at ``path``.

        :raises NotFound: the value has no such part.
        """
        return _views.find(self._type, path, self._access)[0]

    def __contains__(self, path: str) -> bool:
        try:
            self.type_of(path)
        except NotFound:
            return False
        return True

    __iter__ = None

    def __setattr__(self, name: str, value: Any) -> None:
        # A new attribute would look like a change of the segment.
        if not name.startswith("_"):
            raise AttributeError(f"{name!r} can't be assigned to a segment")
        object.__setattr__(self, name, value)

    def close(self) -> None:
        """Detaches from the segment. Does nothing if it is closed.

        If this process was the last user, and the creator wanted that, the name is
        removed.

        :raises RuntimeError: a guard, a permit or an endpoint of this segment is not
            released, or another thread uses the segment at this moment.
        """
        self._mapped.close()

    def __enter__(self) -> Segment:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> Any:
        if self._mapped.name.startswith("fd:"):
            raise TypeError("a segment without a name can't be pickled: pass its descriptor")
        return _reopen, (self._mapped.name, self.fingerprint, self._trust)

    def __repr__(self) -> str:
        return f"<shm_sync.Segment {self._mapped.name!r}>"


def _reopen(address: str, fingerprint: str, trust: tuple[int, int, int]) -> Segment:
    return Segment(_native.open_segment(address, -1, fingerprint, trust), trust)
