"""The objects of a segment that threads and processes wait for."""

from __future__ import annotations

import contextlib
import ctypes
import io
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from ctypes import byref, c_int, c_uint32, c_uint64, c_void_p
from types import TracebackType
from typing import TYPE_CHECKING, Any

from . import _native, _views
from ._errors import (
    Cause,
    CorruptSegment,
    Disconnected,
    Error,
    Failure,
    NotHeld,
    PeerDied,
    Poisoned,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._types import Type

#: The longest call into C in seconds. Between two calls, Python handles signals, so
#: Ctrl-C ends a wait after this time at the latest.
_SLICE = 0.1


class _Timeout:
    """Divides a wait into calls of at most :data:`_SLICE` seconds."""

    def __init__(self, timeout: float | None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def next_slice(self) -> tuple[int, bool]:
        """Returns the length of a call in nanoseconds, and whether it is the last one."""
        remaining = _SLICE + 1
        if self._deadline is not None:
            remaining = max(0.0, self._deadline - time.monotonic())
        return int(min(remaining, _SLICE) * 1e9), remaining <= _SLICE

    def slices(self) -> Iterator[int]:
        """Yields the lengths of the calls in nanoseconds, at least one."""
        is_last = False
        while not is_last:
            nanoseconds, is_last = self.next_slice()
            yield nanoseconds


class SyncObject:
    """The base of the objects in a segment that are not data."""

    def __init__(self, segment: _native.Mapped, type_: Type, offset: int) -> None:
        self._segment = segment
        self._type = type_
        self._place = _native.Place(offset, type_.size)
        segment.check_object(offset, type_.fingerprint)

    def __setattr__(self, name: str, value: Any) -> None:
        # A new attribute would look like a change of the segment.
        if not name.startswith("_"):
            raise AttributeError(f"{name!r} can't be assigned: {self._how_to_change()}")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return f"<{self._type.kind} at {self._place.offset} of {self._segment.name!r}>"

    def _how_to_change(self) -> str:
        return f"a {self._type.kind} has no such attribute"


class Held:
    """The base of what a thread holds until its release: guards, permits, endpoints.

    The ``with`` statement releases it at its end.
    """

    def __init__(self, segment: _native.Mapped, *release: Any) -> None:
        self._segment = segment
        self._record = _native.Record(self, segment, *release)
        self._held = self._record.held
        self._thread = _native.this_thread()
        self._thread_id = _native.plain("thread_id")
        _native.release_abandoned().append(self._record)
        segment.held.add(self)

    def blocks_close(self) -> bool:
        """Returns whether the segment must stay open."""
        if not self._record.is_held():
            return False
        # The kernel has released what a thread held that has ended.
        return bool(_native.plain("is_thread", self._thread_id))

    def release(self) -> None:
        """Releases it. Does nothing if it was released before, or in a forked child.

        :raises NotHeld: another thread has acquired it.
        """
        if self.blocks_close():
            self._check()
            self._release()

    def _check(self) -> None:
        if not self._record.is_held():
            raise NotHeld(f"this {type(self).__name__} is not held")
        if self._thread != _native.this_thread():
            raise NotHeld(f"another thread has acquired this {type(self).__name__}")

    def _release(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Any:
        self._check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def __del__(self) -> None:
        if getattr(self, "_thread", None) is None:
            return  # `__init__` has failed
        if not self.blocks_close():
            _native.forget(self._thread, self._record)
            return
        try:
            warnings.warn(
                f"a {type(self).__name__} was not released",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        finally:
            if self._thread == _native.this_thread():
                self._record.abandon()


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
        guard = Guard(self)
        guard._raise_poison(guard._lock(timeout))
        return guard

    def try_lock(self) -> Guard | None:
        """Locks the mutex if no thread holds it. Returns ``None`` if a thread does.

        :raises Poisoned: as :meth:`lock` does.
        """
        guard = Guard(self)
        allow = ("POISONED", "WOULD_BLOCK", "DEADLOCK")
        with guard._acquiring():
            result = self._segment.call("try_lock", self._place, byref(guard._held), allow=allow)
        if result in ("WOULD_BLOCK", "DEADLOCK"):
            return None
        guard._raise_poison(result)
        return guard

    def recover(self, timeout: float | None = None) -> RecoveringGuard:
        """Locks the mutex to repair the data, whether it is poisoned or not.

        The poison is cleared when the ``with`` block ends without an exception. Another
        process may have repaired the data first: then ``cause`` of the guard is
        ``None``.
        """
        guard = RecoveringGuard(self)
        if guard._lock(timeout) == "POISONED":
            guard.cause = self.poison_cause
        return guard

    def lock_or_recover(
        self, repair: Callable[[Any, Cause], object], timeout: float | None = None
    ) -> Guard:
        """Locks the mutex. If it is poisoned, calls ``repair(data, cause)`` first.

        The lock is held during the call. The poison is cleared when it returns. If it
        raises an exception, the mutex is unlocked and stays poisoned.
        """
        guard = Guard(self)
        if guard._lock(timeout) == "POISONED":
            cause = self.poison_cause
            try:
                if cause is not None:
                    repair(guard.data, cause)
                self._segment.call("recover", self._place)
            except BaseException:
                guard.release()
                raise
        return guard

    def _how_to_change(self) -> str:
        return "lock the mutex, and change what the with statement gives"

    @property
    def is_poisoned(self) -> bool:
        """Whether the mutex is poisoned. Other processes may change it."""
        return self.poison_cause is not None

    @property
    def poison_cause(self) -> Cause | None:
        """Why the mutex is poisoned, or ``None``. Other processes may change it."""
        words = (c_uint32 * 3)()
        result = self._segment.call("poison_cause", self._place, words, allow=("POISONED",))
        if result == "OK":
            return None
        kind, pid, tid = words
        return Cause(Failure.PANICKED if kind == 2 else Failure.DIED, pid, tid)


class Guard(Held):
    """The right to use the data of a locked mutex.

    It belongs to the thread that locked. A guard that is forgotten poisons the mutex,
    because the data may be inconsistent.
    """

    def __init__(self, mutex: Mutex) -> None:
        data = mutex._type.field("data")
        if data is None:
            raise CorruptSegment("the type table has a ShmMutex without data")
        # The data may be inconsistent, if the program forgets the guard.
        super().__init__(mutex._segment, "unlock", mutex._place, int(True))
        self._mutex = mutex
        access = GuardedAccess(self)
        #: The data: a view, which is valid until the release.
        self.data: Any = _views.view(data.type, mutex._place.offset + data.offset, access)

    def __enter__(self) -> Any:
        self._check()
        return self.data

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # If an exception of a signal handler comes before this call, `__del__` poisons.
        if self.blocks_close():
            self._check()
            self._unlock(poison=kind is not None)

    @contextlib.contextmanager
    def _acquiring(self) -> Iterator[None]:
        """Unlocks if an exception comes before the program has the guard."""
        try:
            yield
        except BaseException:
            if self._held.value == 1:
                self._unlock(poison=False)
            raise

    def _lock(self, timeout: float | None) -> str:
        """Locks the mutex. Returns ``OK`` or ``POISONED``."""
        with self._acquiring():
            for nanoseconds in _Timeout(timeout).slices():
                result = self._segment.call(
                    "lock_for",
                    self._mutex._place,
                    nanoseconds,
                    byref(self._held),
                    allow=("POISONED", "TIMED_OUT"),
                )
                if result != "TIMED_OUT":
                    return result
        raise TimeoutError("another thread has held the lock until the timeout")

    def _raise_poison(self, result: str) -> None:
        """Unlocks the mutex and raises an exception if it is poisoned."""
        if result == "POISONED":
            cause = self._mutex.poison_cause
            self._unlock(poison=False)
            if cause is None:  # `clear-poison` of the tool was faster
                cause = Cause.unknown()
            raise Poisoned(self._mutex, cause)

    def _release(self) -> None:
        self._unlock(poison=False)

    def _unlock(self, *, poison: bool) -> None:
        self._segment.call("unlock", self._mutex._place, int(poison), byref(self._held))


class GuardedAccess(_views.Access):
    """The right to use the data of a mutex, until its guard is released."""

    def __init__(self, guard: Guard) -> None:
        super().__init__(guard._segment, writable=True)
        # A cycle of references would delay the release of a forgotten guard.
        self._guard = weakref.ref(guard)

    def guard(self) -> Guard:
        """Returns the guard. Raises an exception if it was released."""
        guard = self._guard()
        if guard is None:
            raise NotHeld("the guard of this data was released")
        guard._check()
        return guard

    def check_read(self) -> None:
        """Raises an exception if the guard was released."""
        self.guard()


class RecoveringGuard(Guard):
    """A guard whose ``with`` block repairs the data of a poisoned mutex."""

    #: Why the mutex is poisoned, or ``None``: another process has repaired it.
    cause: Cause | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self.blocks_close():
            self.clear_poison()
        super().__exit__(kind, error, trace)

    def clear_poison(self) -> None:
        """Clears the poison, because the data are repaired. The lock stays held."""
        self._check()
        self._segment.call("recover", self._mutex._place)


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
        return without a notification, so call it in a loop, or use :meth:`wait_for`. (It
        returns after a tenth of a second at the latest, so that Python can handle
        signals.) Returns ``False`` if ``timeout``, in seconds, has passed.

        An exception of a signal handler, such as Ctrl-C, unlocks the mutex and does not
        poison it. While another thread holds the mutex, neither such an exception nor
        the timeout ends the call.

        :raises Poisoned: the mutex was poisoned meanwhile. The lock is not held then.
        """
        return self._wait(_guard_of(data), _Timeout(timeout))

    def wait_for(
        self, data: Any, predicate: Callable[[Any], Any], timeout: float | None = None
    ) -> Any:
        """Waits until ``predicate(data)`` is true, and returns its value.

        Returns the last value, which is false, if ``timeout``, in seconds, has passed.

        :raises Poisoned: as :meth:`wait` does.
        """
        guard = _guard_of(data)
        limit = _Timeout(timeout)
        in_time = True
        value = predicate(data)
        while not value and in_time:
            in_time = self._wait(guard, limit)
            value = predicate(data)
        return value

    def notify_one(self) -> None:
        """Wakes one waiting thread, if there is any."""
        self._segment.plain("notify_one", self._place)

    def notify_all(self) -> None:
        """Wakes all waiting threads."""
        self._segment.plain("notify_all", self._place)

    def _wait(self, guard: Guard, limit: _Timeout) -> bool:
        guard._check()
        if guard._segment is not self._segment:
            raise ValueError("the condition variable and the mutex are of two segments")
        nanoseconds, is_last = limit.next_slice()
        # The data are consistent, because the wait unlocks the mutex. So an exception of
        # a signal handler, such as Ctrl-C, unlocks and does not poison.
        # If it has used a notification, another waiter notices within 250 ms.
        with guard._acquiring():
            result = self._segment.call(
                "wait_for",
                self._place,
                guard._mutex._place,
                nanoseconds,
                byref(guard._held),
                allow=("POISONED", "TIMED_OUT"),
            )
        guard._raise_poison(result)
        return not (result == "TIMED_OUT" and is_last)


def _guard_of(data: Any) -> Guard:
    if isinstance(data, Guard):
        return data
    access = getattr(data, "_access", None)
    if not isinstance(access, GuardedAccess):
        raise TypeError("this needs the data of a mutex, as its with statement gives it")
    return access.guard()


class Semaphore(SyncObject):
    """A ``ShmSemaphore``: numbered permits, which come back if their holders die.

    >>> with segment["devices"].acquire() as permit:
    ...     print(permit.index < 4)
    True
    """

    @property
    def permits(self) -> int:
        """The number of all permits."""
        return int(_native.plain("permits", self._type.size))

    def available(self) -> int:
        """Returns how many permits are free at this moment."""
        return int(self._segment.plain("available", self._place, self.permits))

    def acquire(self, timeout: float | None = None) -> Permit:
        """Waits for a permit. ``timeout`` is in seconds; 0 does not wait.

        :raises TimeoutError: no permit was free until the timeout.
        """
        permit = Permit(self._segment)
        try:
            for nanoseconds in _Timeout(timeout).slices():
                result = self._segment.call(
                    "acquire_for",
                    self._place,
                    self.permits,
                    nanoseconds,
                    permit._permit,
                    byref(permit._held),
                    allow=("TIMED_OUT", "WOULD_BLOCK"),
                )
                if result == "OK":
                    after_death = c_int()
                    permit.index = _native.plain("permit", permit._permit, byref(after_death))
                    permit.after_death = bool(after_death.value)
                    return permit
        except BaseException:
            # An exception of a signal handler: the next holder is told of a death.
            if permit._held.value == 1:
                self._segment.call("permit_give_back", permit._permit, byref(permit._held))
            raise
        raise TimeoutError("no permit was free until the timeout")


class Permit(Held):
    """A permit of a semaphore. It belongs to the thread that acquired it."""

    #: The number of the permit. No other permit has it at the same time.
    index: int
    #: Whether the last holder of this permit died with it.
    after_death: bool

    def __init__(self, segment: _native.Mapped) -> None:
        self._permit = _native.room("permit")
        super().__init__(segment, "permit_release", self._permit)

    def __enter__(self) -> Self:
        self._check()
        return self

    def _release(self) -> None:
        self._segment.call("permit_release", self._permit, byref(self._held))


class Event(SyncObject):
    """A ``ShmEvent``, with the methods of :class:`threading.Event`."""

    def set(self) -> None:
        """Sets the event, and wakes the waiting threads (one, if it resets itself)."""
        self._segment.call("event_set", self._place)

    def clear(self) -> None:
        """Resets the event."""
        self._segment.plain("event_reset", self._place)

    def is_set(self) -> bool:
        """Returns whether the event is set at this moment."""
        return bool(self._segment.plain("event_is_set", self._place))

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the event is set. Returns ``False`` if ``timeout`` has passed."""
        has_reset = c_int()
        try:
            for nanoseconds in _Timeout(timeout).slices():
                result = self._segment.call(
                    "event_wait_for",
                    self._place,
                    nanoseconds,
                    byref(has_reset),
                    allow=("TIMED_OUT",),
                )
                if result == "OK":
                    return True
        except BaseException:
            # An exception of a signal handler: another thread goes on instead.
            if has_reset.value == 1:
                self.set()
            raise
        return False


class _ChannelWords(ctypes.Structure):
    """A channel for the C library, as `_library.c` declares it."""

    _fields_ = (("at", c_void_p), ("numbers", c_uint64 * 5))


class Channel(SyncObject):
    """A ``ShmChannel``: messages from senders to receivers.

    >>> numbers = segment["numbers"]
    >>> with numbers.sender() as sender, numbers.receiver() as receiver:
    ...     sender.send(7)
    ...     receiver.recv()
    7
    """

    def __init__(self, segment: _native.Mapped, type_: Type, offset: int) -> None:
        super().__init__(segment, type_, offset)
        slots = _views.part_of(type_, "slots").type
        if slots.kind != "array":
            raise CorruptSegment("the slots of a channel are no array")
        self._slots = slots.fields[0]

    @property
    def message(self) -> Type:
        """The type of a message."""
        return self._slots.type

    @property
    def capacity(self) -> int:
        """The number of messages that it has room for."""
        return self._slots.offset

    def __len__(self) -> int:
        """The number of messages in it at this moment."""
        return int(self._segment.plain("channel_len", byref(self._words())))

    def __bool__(self) -> bool:
        return True

    def sender(self) -> Sender:
        """Opens an endpoint that sends.

        :raises LockFailed: all of them are taken.
        """
        return Sender(self)

    def receiver(self) -> Receiver:
        """Opens an endpoint that receives.

        :raises LockFailed: all of them are taken.
        """
        return Receiver(self)

    def _words(self) -> _ChannelWords:
        ends = [_seats(self._type, side) for side in ("senders", "receivers")]
        message = self.message
        numbers = (c_uint64 * 5)(message.size, message.align, self.capacity, *ends)
        return _ChannelWords(self._segment.address(self._place), numbers)


def _seats(channel: Type, side: str) -> int:
    seats = _views.part_of(_views.part_of(channel, side).type, "seats").type
    return seats.fields[0].offset


class _End(Held):
    """An endpoint of a channel. It belongs to the thread that opened it."""

    _side: str
    _timed_out: str

    def __init__(self, channel: Channel) -> None:
        self._end = _native.room(self._side)
        super().__init__(channel._segment, f"{self._side}_close", self._end)
        self._channel = channel
        # How many messages the last transfer has moved, until its caller has returned. So
        # an exception of a signal handler, just after the call, loses none.
        self._moved = c_uint64()
        self._is_busy = False
        open_ = f"{self._side}_open"
        self._segment.call(open_, byref(channel._words()), self._end, byref(self._held))

    def _release(self) -> None:
        self._segment.call(f"{self._side}_close", self._end, byref(self._held))

    def _transfer(self, name: str, messages: Any, count: int, timeout: float | None) -> int:
        """Moves at least one message. Returns how many. The caller then resets `_moved`."""
        self._check()
        if self._moved.value == 0:
            for nanoseconds in _Timeout(timeout).slices():
                result = self._segment.call(
                    name,
                    self._end,
                    messages,
                    count,
                    nanoseconds,
                    byref(self._moved),
                    allow=("TIMED_OUT", "WOULD_BLOCK"),
                )
                if result == "OK":
                    break
            else:
                raise TimeoutError(self._timed_out)
        return self._moved.value

    @contextlib.contextmanager
    def _transferring(self) -> Iterator[None]:
        """Refuses a call of a signal handler below a call of the same endpoint."""
        if self._is_busy:
            raise RuntimeError(f"this {type(self).__name__} is in use below this call")
        self._is_busy = True
        try:
            yield
        finally:
            self._is_busy = False

    def _wait_for_peer(self, timeout: float | None) -> None:
        self._check()
        for nanoseconds in _Timeout(timeout).slices():
            name = f"{self._side}_wait"
            result = self._segment.call(name, self._end, nanoseconds, allow=("TIMED_OUT",))
            if result == "OK":
                return
        raise TimeoutError("the other side has not come before the timeout")


class Sender(_End):
    """An endpoint of a channel that sends."""

    _side = "sender"
    _timed_out = "there was no room before the timeout"
    #: The bytes of the last write to a pipe, and how many `io` has asked for.
    _written = b""
    _length = 0

    def __enter__(self) -> Self:
        self._check()
        return self

    def send(self, message: Any, timeout: float | None = None) -> None:
        """Sends a message, and waits for room. ``timeout`` is in seconds.

        A message that is a struct is a dict or a sequence of its fields. If the process
        is killed, the message is sent as a whole or not at all.

        :raises TimeoutError: there was no room until the timeout.
        :raises PeerDied: the last receiver has died.
        :raises Disconnected: all receivers have closed.
        """
        data = _views.encode(self._channel.message, message)
        with self._transferring():
            self._moved.value = 0  # a message whose transfer was interrupted is sent
            self._transfer("send_many_for", data, 1, timeout)
            self._moved.value = 0

    def wait_for_receiver(self, timeout: float | None = None) -> None:
        """Waits until there is a receiver of whose end this sender was not told.

        ``timeout`` is in seconds.

        :raises TimeoutError: there was none until the timeout.
        """
        self._wait_for_peer(timeout)

    def _write(self, data: bytes, length: int) -> int:
        """Sends bytes to a pipe, at least one. Returns how many.

        ``data`` has as many as the pipe has room for, or all, which are ``length``.
        """
        # After an interruption, `io` writes the bytes of its buffer again. It does not
        # write again what was too large for the buffer.
        with self._transferring():
            sent = self._written[: self._moved.value]
            if self._length > io.DEFAULT_BUFFER_SIZE or not data.startswith(sent):
                self._moved.value = 0
            self._written, self._length = data, length
            moved = self._transfer("send_many_for", data, len(data), None)
            self._moved.value = 0
            return moved


class Receiver(_End):
    """An endpoint of a channel that receives. Iterating receives until the end."""

    _side = "receiver"
    _timed_out = "no message came before the timeout"
    #: How many bytes of the buffer were returned. There are more after an interruption.
    _taken = 0

    def __enter__(self) -> Self:
        self._check()
        return self

    def recv(self, timeout: float | None = None) -> Any:
        """Receives a message, and waits for it. ``timeout`` is in seconds.

        A message that is a struct is returned as a dict.

        :raises TimeoutError: there was no message until the timeout.
        :raises PeerDied: all messages were received, and the last sender has died.
        :raises Disconnected: all messages were received, and all senders have closed.
        """
        type_ = self._channel.message
        with self._transferring():
            if self._moved.value == 0:
                self._buffer = ctypes.create_string_buffer(max(1, type_.size))
            self._transfer("recv_many_for", self._buffer, 1, timeout)
            memory = _views.Buffer(type_.size, self._buffer.raw)
            try:
                message = _views.detached(_views.get(type_, 0, _views.Access(memory)))
            except (Error, AttributeError):
                self._moved.value = 0  # it can't be decoded later, either
                raise
            self._moved.value = 0
            return message

    def wait_for_sender(self, timeout: float | None = None) -> None:
        """Waits until there is a sender of whose end this receiver was not told.

        A server that has received the end of its clients waits for the next one.
        ``timeout`` is in seconds.

        :raises TimeoutError: there was none until the timeout.
        """
        self._wait_for_peer(timeout)

    def _read(self, count: int) -> bytes:
        """Receives bytes from a pipe, at least one. Returns none at the end."""
        with self._transferring():
            count = min(count, self._channel.capacity)
            if self._moved.value == 0:
                self._buffer = ctypes.create_string_buffer(max(1, count))
                self._taken = 0
            try:
                received = self._transfer("recv_many_for", self._buffer, count, None)
            except PeerDied:
                raise
            except Disconnected:
                return b""
            end = min(self._taken + count, received)
            data = bytes(memoryview(self._buffer)[self._taken : end])
            self._taken = end
            if end == received:
                self._moved.value = 0
            return data

    def __iter__(self) -> Iterator[Any]:
        while True:
            try:
                message = self.recv()
            except PeerDied:
                raise
            except Disconnected:
                return
            yield message


class Pipe(SyncObject):
    """A ``ShmPipe``: bytes from one writer to one reader."""

    def __init__(self, segment: _native.Mapped, type_: Type, offset: int) -> None:
        super().__init__(segment, type_, offset)
        channel = _views.part_of(type_, "channel")
        self._channel = Channel(segment, channel.type, offset + channel.offset)

    def writer(self) -> io.BufferedWriter:
        """Opens the end that writes, as a binary file.

        Closing it tells the reader the end of the file.

        :raises LockFailed: there is a writer.
        """
        return io.BufferedWriter(_PipeWriter(self._channel.sender()))

    def reader(self) -> io.BufferedReader:
        """Opens the end that reads, as a binary file.

        If the writer dies, reading raises :class:`PeerDied` at the end of what it has
        written, unless another writer has opened the pipe before. ``rest`` of the
        exception has the bytes that the call had read. (A :class:`io.TextIOWrapper`
        around it drops a last line that was cut.)

        :raises LockFailed: there is a reader.
        """
        return _BufferedReader(_PipeReader(self._channel.receiver()))


class _PipeEnd(io.RawIOBase):
    def __init__(self, end: Any) -> None:
        super().__init__()
        self._end = end

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._end.release()


class _PipeWriter(_PipeEnd):
    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        """Writes at least one byte. Waits for room."""
        view = memoryview(data).cast("B")
        room = self._end._channel.capacity
        return int(self._end._write(bytes(view[:room]), len(view)))


class _PipeReader(_PipeEnd):
    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Reads at least one byte, or 0 at the end of the file. Waits for a byte."""
        view = memoryview(buffer).cast("B")
        data = self._end._read(len(view))
        view[: len(data)] = data
        return len(data)


class _BufferedReader(io.BufferedReader):
    """A buffered reader of a pipe whose writer may die.

    The methods of the base class lose what they have read if reading raises an
    exception. Here, at most one read of the pipe is in each call of the base class.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        limit = self._limit(size)
        chunks: list[bytes] = []
        with _keeping(chunks):
            while limit != 0:
                # Fills the buffer, so that small reads use it.
                if 0 < limit < io.DEFAULT_BUFFER_SIZE and not self.peek(1):
                    break
                chunk = self.read1(limit)
                if not chunk:
                    break
                chunks.append(chunk)
                limit -= len(chunk) if limit > 0 else 0
        return b"".join(chunks)

    def _limit(self, size: int | None) -> int:
        if self.closed:
            raise ValueError("read of closed file")
        return -1 if size is None or size < 0 else size

    def readline(self, size: int | None = -1, /) -> bytes:
        limit = self._limit(size)
        chunks: list[bytes] = []
        with _keeping(chunks):
            while limit != 0 and not (chunks and chunks[-1].endswith(b"\n")):
                ready = self.peek(1)
                if not ready:
                    break
                length = ready.find(b"\n") + 1 or len(ready)
                chunk = self.read1(length if limit < 0 else min(length, limit))
                chunks.append(chunk)
                limit -= len(chunk) if limit > 0 else 0
        return b"".join(chunks)

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        lines: list[bytes] = []
        limit = self._limit(hint)
        total = 0
        with _keeping(lines):
            while limit <= 0 or total < limit:
                line = self.readline()
                if not line:
                    break
                lines.append(line)
                total += len(line)
        return lines

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)


@contextlib.contextmanager
def _keeping(chunks: list[bytes]) -> Iterator[None]:
    """Gives a :class:`PeerDied` what a call has read before it."""
    try:
        yield
    except PeerDied as error:
        error.rest = b"".join(chunks) + error.rest
        raise


_native.KINDS.update(
    {
        "ShmMutex": Mutex,
        "ShmCondvar": Condvar,
        "ShmSemaphore": Semaphore,
        "ShmEvent": Event,
        "ShmChannel": Channel,
        "ShmPipe": Pipe,
    }
)
