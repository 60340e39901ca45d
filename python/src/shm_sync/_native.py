"""Calls the C library of this package, which `_library.c` has from `shm_sync.h`."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import functools
import os
import pathlib
import re
import threading
import warnings
import weakref
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from typing import Any

from ._errors import (
    CorruptSegment,
    Deadlock,
    Disconnected,
    Error,
    LayoutMismatch,
    LockFailed,
    NotASegment,
    NotFound,
    NotHeld,
    PeerDied,
    PermissionDenied,
    StaleSegment,
)

_PATH = pathlib.Path(__file__).with_name("_library.so")
_library = ctypes.CDLL(str(_PATH), use_errno=True)

_HELD = POINTER(c_int)
#: The arguments of each function. All numbers of nanoseconds are unsigned.
_ARGUMENTS: dict[str, tuple[list[Any], Any]] = {
    "name": ([c_int], c_char_p),
    "text": ([c_int], c_char_p),
    "thread": ([], c_uint64),
    "thread_id": ([], c_int),
    "is_thread": ([c_int], c_int),
    "open": ([c_char_p, c_int, c_char_p, POINTER(c_uint32), POINTER(c_void_p)], c_int),
    "close": ([c_void_p], c_int),
    "value": ([c_void_p, POINTER(c_uint64), POINTER(c_uint64)], c_void_p),
    "type_table": ([c_void_p, c_char_p, c_uint64], c_uint64),
    "check_object": ([c_void_p, c_uint64, c_uint64, c_uint64], c_int),
    "fingerprint": ([c_void_p, c_char_p], None),
    "lock_for": ([c_void_p, c_uint64, _HELD], c_int),
    "try_lock": ([c_void_p, _HELD], c_int),
    "unlock": ([c_void_p, c_int, _HELD], c_int),
    "recover": ([c_void_p], c_int),
    "poison": ([c_void_p], c_int),
    "poison_cause": ([c_void_p, POINTER(c_uint32)], c_int),
    "wait_for": ([c_void_p, c_void_p, c_uint64, _HELD], c_int),
    "notify_one": ([c_void_p], None),
    "notify_all": ([c_void_p], None),
    "size": ([c_char_p], c_uint64),
    "acquire_for": ([c_void_p, c_uint64, c_uint64, c_void_p, _HELD], c_int),
    "permit": ([c_void_p, _HELD], c_uint64),
    "permit_release": ([c_void_p, _HELD], c_int),
    "permit_give_back": ([c_void_p, _HELD], c_int),
    "permits": ([c_uint64], c_uint64),
    "available": ([c_void_p, c_uint64], c_uint64),
    "event_set": ([c_void_p], c_int),
    "event_reset": ([c_void_p], None),
    "event_is_set": ([c_void_p], c_int),
    "event_wait_for": ([c_void_p, c_uint64, POINTER(c_int)], c_int),
    "channel_len": ([c_void_p], c_uint64),
    "sender_open": ([c_void_p, c_void_p, _HELD], c_int),
    "receiver_open": ([c_void_p, c_void_p, _HELD], c_int),
    "sender_close": ([c_void_p, _HELD], c_int),
    "receiver_close": ([c_void_p, _HELD], c_int),
    "sender_wait": ([c_void_p, c_uint64], c_int),
    "receiver_wait": ([c_void_p, c_uint64], c_int),
    "send_many_for": (
        [c_void_p, c_char_p, c_uint64, c_uint64, POINTER(c_uint64)],
        c_int,
    ),
    "recv_many_for": (
        [c_void_p, c_char_p, c_uint64, c_uint64, POINTER(c_uint64)],
        c_int,
    ),
}
for _size in (1, 2, 4, 8):
    _ARGUMENTS[f"load_{_size}"] = ([c_void_p], c_uint64)
    _ARGUMENTS[f"swap_{_size}"] = ([c_void_p, c_uint64], c_uint64)
    _ARGUMENTS[f"add_{_size}"] = ([c_void_p, c_uint64], c_uint64)


def _function(name: str) -> Any:
    function = getattr(_library, f"shm_sync_py_{name}")
    function.argtypes, function.restype = _ARGUMENTS[name]
    return function


_FUNCTIONS: dict[str, Any] = {name: _function(name) for name in _ARGUMENTS}

#: The exception for each result of the C library. The others become LockFailed.
_EXCEPTIONS: dict[str, type[Error]] = {
    "DEADLOCK": Deadlock,
    "NOT_HELD": NotHeld,
    "DISCONNECTED": Disconnected,
    "PEER_DIED": PeerDied,
    "NOT_FOUND": NotFound,
    "NO_SUCH_FIELD": NotFound,
    "NOT_A_SEGMENT": NotASegment,
    "UNSUPPORTED_FORMAT": LayoutMismatch,
    "LAYOUT_MISMATCH": LayoutMismatch,
    "CORRUPT": CorruptSegment,
    "PERMISSION_DENIED": PermissionDenied,
    "WRONG_OWNER": PermissionDenied,
    "TOO_PERMISSIVE": PermissionDenied,
    "STALE": StaleSegment,
    "FOREIGN_PID_NAMESPACE": StaleSegment,
}


@functools.cache
def _name(result: int) -> str:
    return str(_FUNCTIONS["name"](result).decode())


def plain(name: str, *arguments: Any) -> Any:
    """Calls a function that returns no result, and returns what it returns."""
    return _FUNCTIONS[name](*arguments)


def call(name: str, *arguments: Any, allow: tuple[str, ...] = (), what: str = "") -> str:
    """Calls a function. Returns the name of its result, ``OK`` or one of ``allow``.

    :raises Error: every other result. The message begins with ``what``.
    """
    number = _FUNCTIONS[name](*arguments)
    result = _name(number)
    if result == "OK" or result in allow:
        return result
    text = _FUNCTIONS["text"](number).decode()
    message = f"{what}: {text}" if what else text
    if result == "SYSTEM":
        code = ctypes.get_errno()
        raise OSError(code, f"{message}: {os.strerror(code)}")
    if result == "INVALID_NAME":
        raise ValueError(message)
    error = _EXCEPTIONS.get(result, LockFailed)(message)
    error.result = result.lower()
    raise error


def room(which: str) -> Any:
    """Returns memory for a ``permit``, a ``sender`` or a ``receiver``."""
    return (c_uint64 * -(-int(_FUNCTIONS["size"](which.encode())) // 8))()


def open_segment(
    address: str | None, fd: int, fingerprint: str | None, trust: tuple[int, int, int] | None = None
) -> Mapped:
    """Opens the segment of an address, or that of a descriptor.

    ``trust`` is an owner, a group and a mode, as ``shm_sync_options`` has them.
    """
    name = f"fd:{fd}" if address is None else address
    if fingerprint is not None and not re.fullmatch("[0-9a-fA-F]{32}", fingerprint):
        raise ValueError(f"{fingerprint!r} is no fingerprint: it has 32 hexadecimal digits")
    if address is not None and "\0" in address:
        raise ValueError(f"{address!r} is no address: it contains a zero character")
    segment = c_void_p()
    call(
        "open",
        None if address is None else os.fsencode(address),
        fd,
        None if fingerprint is None else fingerprint.encode(),
        None if trust is None else (c_uint32 * 3)(*trust),
        ctypes.byref(segment),
        what=name,
    )
    return Mapped(name, segment)


#: The class of the Python object for each kind of object in the type table.
KINDS: dict[str, Any] = {}


class Record:
    """What a thread holds, and how to release it if the program has forgotten it.

    A finaliser can't always do that: it may run in another thread, and an exception of a
    signal handler may end it. So the next call of the thread does.
    """

    def __init__(self, owner: Any, segment: Mapped, *release: Any) -> None:
        self._owner = weakref.ref(owner)
        self._segment = segment
        self._release = release
        self._pid = os.getpid()
        # The C library sets it to 1 when the call has acquired, and to 0 when a call has
        # released. So an exception of a signal handler, just after it, loses nothing.
        self.held = c_int(0)

    def abandon(self) -> None:
        """Releases it as the program has not."""
        if self._segment.is_open():
            self._segment.call(*self._release, ctypes.byref(self.held), allow=("NOT_HELD",))

    def is_abandoned(self) -> bool:
        """Returns whether the program can't release it any more."""
        return self._owner() is None

    def is_held(self) -> bool:
        """Returns whether it must be released. A forked child has nothing to release."""
        return self.held.value != 0 and self._pid == os.getpid()


#: The records of each thread, by its number.
_records: dict[int, list[Record]] = {}


def this_thread() -> int:
    """Returns the number of the calling thread, which no other thread gets."""
    return int(plain("thread"))


def release_abandoned() -> list[Record]:
    """Releases what this thread holds and has forgotten. Returns its other records."""
    thread = this_thread()
    for record in list(_records.get(thread, ())):
        if record.is_abandoned():
            if record.is_held():
                record.abandon()
            forget(thread, record)
    return _records.setdefault(thread, [])


def forget(thread: int, record: Record) -> None:
    """Removes the record of what is not held any more."""
    records = _records.get(thread, [])
    with contextlib.suppress(ValueError):  # another call was faster
        records.remove(record)
    if not records:
        _records.pop(thread, None)


#: All open segments.
_mapped: weakref.WeakSet[Mapped] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for mapped in list(_mapped):
        mapped.forget_other_threads()


os.register_at_fork(after_in_child=_after_fork_in_child)


@dataclasses.dataclass(frozen=True)
class Place:
    """A part of the value of a segment, as an argument of :meth:`Mapped.call`."""

    offset: int
    size: int


class Mapped:
    """The memory of an open segment.

    All accesses go through this class, which counts those in progress, so that no
    thread unmaps what another one is using.
    """

    def __init__(self, name: str, segment: c_void_p) -> None:
        size, length = c_uint64(), c_uint64()
        self.name = name
        #: The guards, permits and endpoints.
        self.held: weakref.WeakSet[Any] = weakref.WeakSet()
        #: The ids of the threads that are in a call, once for each call.
        self._active: list[int] = []
        self._segment: c_void_p | None = segment
        self._value = plain("value", segment, ctypes.byref(size), ctypes.byref(length))
        self._size = size.value
        #: The number of elements, if the creator chose it, else 0.
        self.len = length.value
        _mapped.add(self)

    def call(self, name: str, *arguments: Any, allow: tuple[str, ...] = ()) -> str:
        """Calls a function as :func:`call` does. A :class:`Place` becomes its address."""
        return str(self._run(lambda: call(name, *self._resolve(arguments), allow=allow)))

    def plain(self, name: str, *arguments: Any) -> Any:
        """Calls a function as :func:`plain` does. A :class:`Place` becomes its address."""
        return self._run(lambda: plain(name, *self._resolve(arguments)))

    def object(self, type_: Any, offset: int) -> Any:
        """Returns the Python object for an object that is not data."""
        kind = KINDS.get(type_.kind)
        if kind is None:
            raise LayoutMismatch(f"this package can't use a {type_.kind!r} yet")
        return kind(self, type_, offset)

    def type_table(self) -> bytes:
        """Returns the bytes of the type table."""

        def read() -> bytes:
            length = plain("type_table", self._segment, None, 0)
            table = ctypes.create_string_buffer(length)
            plain("type_table", self._segment, table, length)
            return table.raw

        return bytes(self._run(read))

    def fingerprint(self) -> str:
        """Returns the fingerprint: 32 hexadecimal digits."""
        text = ctypes.create_string_buffer(33)
        self._run(lambda: plain("fingerprint", self._segment, text))
        return text.value.decode()

    def check_object(self, offset: int, fingerprint: int) -> None:
        """Raises an exception if no object of this type can be used at ``offset``.

        Another program may have written the tables, and C code uses the object.
        """
        low, high = fingerprint & (2**64 - 1), fingerprint >> 64
        self._run(lambda: call("check_object", self._segment, offset, low, high, what=self.name))

    def is_open(self) -> bool:
        """Returns whether the segment is not closed."""
        return self._segment is not None

    def check_open(self) -> None:
        """Raises an exception if the segment is closed."""
        if self._segment is None:
            raise ValueError(f"the segment {self.name!r} is closed")

    def close(self) -> None:
        """Detaches from the segment."""
        if self._segment is None:
            return
        release_abandoned()
        self._check_unused()
        # A thread that begins a call from here on finds the segment closed.
        segment, self._segment = self._segment, None
        if segment is None:
            return  # another call was faster
        try:
            self._check_unused()
        except BaseException:
            self._segment = segment
            raise
        # If an exception of a signal handler comes here, the segment stays mapped.
        result = call("close", segment, what=self.name, allow=("LOCKS_HELD",))
        if result == "LOCKS_HELD":
            self._segment = segment
            raise RuntimeError(
                f"the segment {self.name!r} can't be closed: C code holds locks in it"
            )

    def _check_unused(self) -> None:
        """Raises an exception if something is held, or a call is in progress."""
        held = sum(1 for it in list(self.held) if it.blocks_close())
        if held:
            raise RuntimeError(
                f"the segment {self.name!r} can't be closed: {held} guards, permits or "
                "endpoints are not released"
            )
        if self._active:
            # A call of this thread, if this is a signal handler or a finaliser.
            raise RuntimeError(
                f"the segment {self.name!r} can't be closed: a call is using it, of another "
                "thread or below this one"
            )

    def forget_other_threads(self) -> None:
        """Forgets the calls of other threads, which a forked child does not have."""
        me = threading.get_ident()
        self._active = [thread for thread in self._active if thread == me]

    def __del__(self) -> None:
        if getattr(self, "_segment", None) is None:
            return
        try:
            warnings.warn(
                f"the segment {self.name!r} was not closed",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        finally:
            # A forked child, or the end of the interpreter, leaves what is held.
            with contextlib.suppress(Exception):
                self.close()

    def read(self, offset: int, size: int) -> bytes:
        """Returns a copy of the bytes at ``offset`` of the value."""
        return bytes(self._run(lambda: ctypes.string_at(self._address(offset, size), size)))

    def write(self, offset: int, data: bytes) -> None:
        """Replaces the bytes at ``offset`` of the value."""
        self._run(lambda: ctypes.memmove(self._address(offset, len(data)), data, len(data)))

    def atomic(self, operation: str, offset: int, size: int, *operand: int) -> int:
        """Loads, swaps or adds to the atomic number at ``offset``. Returns the old value."""
        return int(self.plain(f"{operation}_{size}", Place(offset, size), *operand))

    def address(self, place: Place) -> int:
        """Returns the address of a place, for use during a call only."""
        return self._address(place.offset, place.size)

    def _run(self, use: Callable[[], Any]) -> Any:
        me = threading.get_ident()
        try:
            self._active.append(me)
            self.check_open()
            return use()
        finally:
            if me in self._active:
                self._active.remove(me)

    def _resolve(self, arguments: tuple[Any, ...]) -> list[Any]:
        return [self.address(it) if isinstance(it, Place) else it for it in arguments]

    def _address(self, offset: int, size: int) -> int:
        if not 0 <= offset <= offset + size <= self._size:
            raise CorruptSegment(f"a part of the value at {offset} is outside the value")
        return int(self._value) + offset
