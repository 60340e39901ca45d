"""Locks in shared memory that survive the processes that use them.

A Rust program creates a segment with the crate `shm-sync`. Python, C and C++ programs
open it and use the same locks. If a process dies while it holds a lock, the next one
that locks is told, and repairs the data.

>>> import shm_sync
>>> segment = shm_sync.open(address)
>>> with segment["pending"].lock() as data:
...     data.value += 1
>>> segment.close()
"""

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
    Poisoned,
    StaleSegment,
)
from ._segment import Segment, from_fd, open
from ._sync import (
    Channel,
    Condvar,
    Event,
    Guard,
    Mutex,
    Permit,
    Pipe,
    Receiver,
    RecoveringGuard,
    Semaphore,
    Sender,
)
from ._types import Field, Type, Variant
from ._views import detached as copy

__version__ = "0.1.0"

__all__ = [
    "Cause",
    "Channel",
    "Condvar",
    "CorruptSegment",
    "Deadlock",
    "Disconnected",
    "Error",
    "Event",
    "Failure",
    "Field",
    "Guard",
    "LayoutMismatch",
    "LockFailed",
    "Mutex",
    "NotASegment",
    "NotFound",
    "NotHeld",
    "PeerDied",
    "Permit",
    "PermissionDenied",
    "Pipe",
    "Poisoned",
    "Receiver",
    "RecoveringGuard",
    "Segment",
    "Semaphore",
    "Sender",
    "StaleSegment",
    "Type",
    "Variant",
    "copy",
    "from_fd",
    "open",
]
