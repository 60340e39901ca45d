"""Calls the C library of this package, which `_library.c` has from `shm_sync.h`."""

from __future__ import annotations

import ctypes
import functools
import os
import pathlib
from collections.abc import Callable
from ctypes import POINTER, c_char_p, c_int, c_uint32, c_uint64, c_void_p
from typing import Any

from ._errors import (
    Cause,
    CorruptSegment,
    Deadlock,
    Disconnected,
    Error,
    Failure,
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
    "open": ([c_char_p, c_int, c_char_p, POINTER(c_void_p)], c_int),
    "close": ([c_void_p], c_int),
    "value": ([c_void_p, POINTER(c_uint64), POINTER(c_uint64)], c_void_p),
    "type_table": ([c_void_p, c_char_p, c_uint64], c_uint64),
    "check_object": ([c_void_p, c_uint64, c_uint64, c_uint64], c_int),
    "fingerprint": ([c_void_p, c_char_p], None),
    "lock_for": ([c_void_p, c_uint64, _HELD], c_int),
    "try_lock": ([c_void_p, _HELD], c_int),
    "unlock": ([c_void_p, _HELD], c_int),
    "recover": ([c_void_p], c_int),
    "poison": ([c_void_p], c_int),
    "poison_cause": ([c_void_p, POINTER(c_uint32)], c_int),
    "wait_for": ([c_void_p, c_void_p, c_uint64, _HELD], c_int),
    "notify_one": ([c_void_p], None),
    "notify_all": ([c_void_p], None),
    "acquire_for": ([c_void_p, c_uint64, c_uint64, POINTER(c_void_p), _HELD], c_int),
    "permit": ([c_void_p, _HELD], c_uint64),
    "permit_release": ([c_void_p, _HELD], c_int),
    "available": ([c_void_p, c_uint64], c_uint64),
    "event_set": ([c_void_p], c_int),
    "event_reset": ([c_void_p], None),
    "event_is_set": ([c_void_p], c_int),
    "event_wait_for": ([c_void_p, c_uint64], c_int),
    "channel_len": ([c_void_p], c_uint64),
    "sender_open": ([c_void_p, POINTER(c_void_p), _HELD], c_int),
    "receiver_open": ([c_void_p, POINTER(c_void_p), _HELD], c_int),
    "sender_close": ([c_void_p, _HELD], c_int),
    "receiver_close": ([c_void_p, _HELD], c_int),
    "send_for": ([c_void_p, c_char_p, c_uint64], c_int),
    "recv_for": ([c_void_p, c_char_p, c_uint64], c_int),
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
    "free": ([c_void_p], None),
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


def poison_cause(mutex: int) -> Cause | None:
    """Returns why a mutex is poisoned, or ``None``."""
    words = (c_uint32 * 3)()
    if call("poison_cause", mutex, words, allow=("POISONED",)) == "OK":
        return None
    kind, pid, tid = words
    return Cause(Failure.PANICKED if kind == 2 else Failure.DIED, pid, tid)


def open_segment(address: str | None, fd: int, fingerprint: str | None) -> Mapped:
    """Opens the segment of an address, or that of a descriptor."""
    name = f"fd:{fd}" if address is None else address
    segment = c_void_p()
    call(
        "open",
        None if address is None else os.fsencode(address),
        fd,
        None if fingerprint is None else fingerprint.encode(),
        ctypes.byref(segment),
        what=name,
    )
    return Mapped(name, segment)


class Mapped:
    """The memory of an open segment."""

    def __init__(self, name: str, segment: c_void_p) -> None:
        size, length = c_uint64(), c_uint64()
        self.name = name
        #: Makes the Python object of a sync object: set by the segment.
        self.object: Callable[[Any, int], Any]
        #: The number of guards, permits and endpoints that are not released.
        self.guards = 0
        self._segment: c_void_p | None = segment
        self._value = plain("value", segment, ctypes.byref(size), ctypes.byref(length))
        self._size = size.value
        #: The number of elements, if the creator chose it, else 0.
        self.len = length.value

    def type_table(self) -> bytes:
        """Returns the bytes of the type table."""
        length = plain("type_table", self._segment, None, 0)
        table = ctypes.create_string_buffer(length)
        plain("type_table", self._segment, table, length)
        return table.raw

    def fingerprint(self) -> str:
        """Returns the fingerprint: 32 hexadecimal digits."""
        text = ctypes.create_string_buffer(33)
        plain("fingerprint", self._segment, text)
        return text.value.decode()

    def check_object(self, offset: int, fingerprint: int) -> None:
        """Raises an exception if no object of this type can be used at ``offset``.

        Another program may have written the tables, and C code uses the object.
        """
        self.check_open()
        low, high = fingerprint & (2**64 - 1), fingerprint >> 64
        call("check_object", self._segment, offset, low, high, what=self.name)

    def check_open(self) -> None:
        """Raises an exception if the segment is closed."""
        if self._segment is None:
            raise ValueError(f"the segment {self.name!r} is closed")

    def close(self) -> None:
        """Detaches from the segment."""
        if self._segment is None:
            return
        if self.guards:
            raise RuntimeError(
                f"the segment {self.name!r} can't be closed: {self.guards} guards, permits or "
                "endpoints are not released"
            )
        segment, self._segment = self._segment, None
        call("close", segment, what=self.name)

    def address(self, offset: int, size: int = 0) -> int:
        """Returns the address of the bytes at ``offset`` of the value."""
        self.check_open()
        if not 0 <= offset <= offset + size <= self._size:
            raise CorruptSegment(f"a part of the value at {offset} is outside the value")
        return int(self._value) + offset

    def read(self, offset: int, size: int) -> bytes:
        """Returns a copy of the bytes at ``offset`` of the value."""
        return ctypes.string_at(self.address(offset, size), size)

    def write(self, offset: int, data: bytes) -> None:
        """Replaces the bytes at ``offset`` of the value."""
        ctypes.memmove(self.address(offset, len(data)), data, len(data))

    def atomic(self, operation: str, offset: int, size: int, *operand: int) -> int:
        """Loads, swaps or adds to the atomic number at ``offset``. Returns the old value."""
        return int(plain(f"{operation}_{size}", self.address(offset, size), *operand))
