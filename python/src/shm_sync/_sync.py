"""The objects of a segment that threads and processes wait for."""

from __future__ import annotations

import ctypes
import io
import os
import time
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

from . import _native, _views
from ._errors import Cause, Disconnected, Failure, NotHeld, Poisoned
from ._types import Type

_T = TypeVar("_T")

#: The longest call into C in seconds. Between two calls, Python handles signals, so
#: Ctrl-C interrupts a wait after this time at the latest.
_SLICE = 0.1


class _Timeout:
    """Divides a wait into calls of at most :data:`_SLICE` seconds."""

    def __init__(self, timeout: float | None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def slices(self) -> Iterator[int]:
        """Yields the length of each call in nanoseconds, the first one always."""
        while True:
            remaining = self._remaining()
            yield int(min(remaining, _SLICE) * 1e9)
            if remaining <= _SLICE:
                return

    def next_slice(self) -> tuple[int, bool]:
        """Returns the length of one call in nanoseconds, and whether it is the last."""
        remaining = self._remaining()
        return int(min(remaining, _SLICE) * 1e9), remaining <= _SLICE

    def _remaining(self) -> float:
        if self._deadline is None:
            return float("inf")
        return max(0.0, self._deadline - time.monotonic())


class SyncObject:
    """The base of the objects in a segment that are not data."""

    def __init__(self, segment: _native.Mapped, type_: Type, offset: int) -> None:
        self._segment = segment
        self._type = type_
        self._offset = offset

    def _at(self) -> int:
        """Returns the address. Raises an exception if the segment is closed."""
        return self._segment.address(self._offset)

    def __repr__(self) -> str:
        return f"<{self._type.kind} at {self._offset} of {self._segment.name!r}>"


class Mutex(SyncObject):
    """A ``ShmMutex``: a robust mutex and the data that it guards.

    >>> with segment["pending"].lock() as data:
    ...     data.value += 1
    """

    def lock(self, timeout: float | None = None) -> Guard:
        """Locks the mutex.

        Use it in a ``with`` statement, which gives a view of the data. If an exception
        leaves the block, the mutex is poisoned, because the data may be inconsistent.

        ``timeout`` is in seconds.

        :raises Poisoned: the last holder died or failed. The lock is not held then.
        :raises TimeoutError: another thread has held the lock until the timeout.
        :raises Deadlock: this thread holds the lock already.
        """
        cause = self._lock(timeout)
        if cause is not None:
            self._unlock()
            raise Poisoned(self, cause)
        return Guard(self)

    def try_lock(self) -> Guard | None:
        """Locks the mutex if no thread holds it. Returns ``None`` if one does.

        :raises Poisoned: as :meth:`lock` does.
        """
        result = _native.call("try_lock", self._at(), allow=("POISONED", "WOULD_BLOCK", "DEADLOCK"))
        if result in ("WOULD_BLOCK", "DEADLOCK"):
            return None
        if result == "POISONED":
            cause = self._cause()
            self._unlock()
            raise Poisoned(self, cause)
        return Guard(self)

    def recover(self, timeout: float | None = None) -> RecoveringGuard:
        """Locks the mutex to repair the data, whether it is poisoned or not.

        The poison is cleared when the ``with`` block ends without an exception.
        """
        return RecoveringGuard(self, self._lock(timeout))

    def lock_or_recover(
        self, repair: Callable[[Any, Cause], None], timeout: float | None = None
    ) -> Guard:
        """Locks the mutex. If it is poisoned, calls ``repair(data, cause)`` first.

        The lock is held during the call. The poison is cleared when it returns. If it
        raises an exception, the mutex is unlocked and stays poisoned.
        """
        cause = self._lock(timeout)
        guard = Guard(self)
        if cause is not None:
            try:
                repair(guard.data, cause)
            except BaseException:
                guard.release()
                raise
            _native.call("recover", self._at())
        return guard

    @property
    def poison_cause(self) -> Cause | None:
        """Why the mutex is poisoned, or ``None``. Another process may change it."""
        cause = self._cause()
        return None if cause.failure is Failure.UNKNOWN and not cause.tid else cause

    def _lock(self, timeout: float | None) -> Cause | None:
        """Locks the mutex. Returns the cause if it is poisoned."""
        for nanoseconds in _Timeout(timeout).slices():
            result = _native.call(
                "lock_for", self._at(), ctypes.c_uint64(nanoseconds), allow=("POISONED", "TIMED_OUT")
            )
            if result != "TIMED_OUT":
                return self._cause() if result == "POISONED" else None
        raise TimeoutError("another thread has held the lock until the timeout")

    def _unlock(self) -> None:
        _native.call("unlock", self._at())

    def _cause(self) -> Cause:
        return _native.poison_cause(self._at())


class Guard:
    """The right to use the data of a locked mutex. It belongs to the thread that locked.

    Its release unlocks the mutex: at the end of the ``with`` block, or by
    :meth:`release`.
    """

    def __init__(self, mutex: Mutex) -> None:
        self._mutex = mutex
        self._held = True
        self._pid = os.getpid()
        mutex._segment.guards += 1
        data = mutex._type.field("data")
        if data is None:
            self.release()
            raise _native.corrupt("a mutex without data in the type table")
        access = _views.Access(mutex._segment, self._check, writable=True)
        #: The data: a view, which is valid until the release.
        self.data: Any = _views.view(data.type, mutex._offset + data.offset, access)
        _native.guard_of[access] = self

    def release(self) -> None:
        """Unlocks the mutex. Does nothing if the guard was released before."""
        if self._held:
            self._held = False
            self._mutex._segment.guards -= 1
            if self._pid == os.getpid():
                self._mutex._unlock()

    def _check(self) -> None:
        if not self._held or self._pid != os.getpid():
            raise NotHeld("the lock of this data was released")
        self._mutex._segment.check_open()

    def __enter__(self) -> Any:
        self._check()
        return self.data

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._held and kind is not None:
            self._poison()
        self.release()

    def _poison(self) -> None:
        if self._pid == os.getpid():
            _native.call("poison", self._mutex._at())

    def __del__(self) -> None:
        if getattr(self, "_held", False):
            warnings.warn(f"{self._mutex!r} was not released", ResourceWarning, source=self)
            self.release()


class RecoveringGuard(Guard):
    """A guard whose ``with`` block repairs the data of a poisoned mutex."""

    def __init__(self, mutex: Mutex, cause: Cause | None) -> None:
        #: Why the mutex is poisoned, or ``None``: another process has repaired it.
        self.cause = cause
        super().__init__(mutex)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._held and kind is None and self.cause is not None:
            _native.call("recover", self._mutex._at())
        super().__exit__(kind, error, trace)


class Condvar(SyncObject):
    """A ``ShmCondvar``: threads wait until another one notifies them.

    >>> with segment["pending"].lock() as data:
    ...     data.value = 1
    ...     segment["changed"].notify_all()
    ...     segment["changed"].wait_for(data, lambda data: data.value > 0)
    True
    """

    def wait(self, data: Any, timeout: float | None = None) -> bool:
        """Unlocks the mutex, waits for a notification, and locks the mutex again.

        ``data`` is the view that the ``with`` statement of the mutex gives. The call may
        return without a notification, after a tenth of a second and later, so call it
        in a loop, or use :meth:`wait_for`. Returns ``False`` if ``timeout`` (in seconds)
        has passed.

        :raises Poisoned: the mutex was poisoned meanwhile. The lock is not held then.
        """
        return self._wait(_guard(data), _Timeout(timeout))

    def wait_for(
        self, data: Any, predicate: Callable[[Any], Any], timeout: float | None = None
    ) -> Any:
        """Waits until ``predicate(data)`` is true, and returns its value.

        Returns the last value, which is false, if ``timeout`` (in seconds) has passed.

        :raises Poisoned: as :meth:`wait` does.
        """
        guard = _guard(data)
        limit = _Timeout(timeout)
        in_time = True
        while not (value := predicate(data)) and in_time:
            in_time = self._wait(guard, limit)
        return value

    def notify_one(self) -> None:
        """Wakes one waiting thread, if there is any."""
        _native.call("notify_one", self._at())

    def notify_all(self) -> None:
        """Wakes all waiting threads."""
        _native.call("notify_all", self._at())

    def _wait(self, guard: Guard, limit: _Timeout) -> bool:
        guard._check()
        nanoseconds, is_last = limit.next_slice()
        result = _native.call(
            "wait_for",
            self._at(),
            guard._mutex._at(),
            ctypes.c_uint64(nanoseconds),
            allow=("POISONED", "TIMED_OUT"),
        )
        if result == "POISONED":
            cause = guard._mutex._cause()
            guard.release()
            raise Poisoned(guard._mutex, cause)
        return not (result == "TIMED_OUT" and is_last)


def _guard(data: Any) -> Guard:
    if isinstance(data, Guard):
        return data
    access = getattr(data, "_access", None)
    guard = _native.guard_of.get(access)
    if guard is None:
        raise TypeError("wait needs the data of a locked mutex, as the with statement gives it")
    return guard
