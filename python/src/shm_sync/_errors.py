"""The exceptions of this package."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._sync import Mutex, RecoveringGuard


class Error(Exception):
    """The base of all exceptions of this package."""

    #: The name of the result in ``shm_sync.h``, without its prefix, in small letters. It
    #: is empty if this package has found the failure itself.
    result: str = ""


class NotFound(Error):
    """There is no segment of this address, or no field of this path."""


class NotASegment(Error):
    """The object is not a segment of shm-sync."""


class LayoutMismatch(Error):
    """The segment was created for another type, platform or version."""


class CorruptSegment(Error):
    """The header, the type table or a value has bytes that are invalid there."""


class PermissionDenied(Error):
    """The object belongs to another user, or its mode is not as the segment says."""


class StaleSegment(Error):
    """The locks are of another boot, file or pid namespace, and can't be reinitialised.

    A process of another pid namespace uses them, or they are of a kind that this
    package does not know. A Rust program can then open the segment once.
    """


class NotHeld(Error):
    """The calling thread does not hold the lock, or not any more."""


class Deadlock(Error):
    """The calling thread holds the lock already."""


class LockFailed(Error):
    """The lock can't be used by this thread. The message says why."""


class Disconnected(Error):
    """All endpoints on the other side of a channel have been closed."""


class PeerDied(Disconnected):
    """The last endpoint on the other side of a channel has died."""

    #: The bytes of a pipe that the call has read before the end.
    rest: bytes = b""


class Failure(enum.Enum):
    """How the last holder of a mutex failed."""

    #: It died, or ended, with the lock held.
    DIED = "died"
    #: It panicked, or an exception left its ``with`` block.
    PANICKED = "panicked"
    #: Its failure has no recorded kind.
    UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Cause:
    """Why a mutex is poisoned."""

    failure: Failure
    #: The process id of the holder that failed; 0 if it is not known.
    pid: int
    #: The thread id of the holder that failed; 0 if it is not known.
    tid: int

    @classmethod
    def unknown(cls) -> Cause:
        """Returns the cause of a failure of which nothing is known."""
        return cls(Failure.UNKNOWN, 0, 0)

    def __str__(self) -> str:
        verb = "panicked" if self.failure is Failure.PANICKED else "died"
        if not self.tid:
            return f"its last holder {verb}"
        return f"its last holder {verb} (process {self.pid or 'unknown'}, thread {self.tid})"


class Poisoned(Error):
    """The last holder of the mutex died or failed, so the data may be inconsistent.

    The lock is not held when this is raised. The mutex stays poisoned until a holder
    has repaired the data: see :meth:`recover`.
    """

    def __init__(self, mutex: Mutex, cause: Cause) -> None:
        super().__init__(f"{cause}; the data may be inconsistent")
        #: The mutex.
        self.mutex = mutex
        #: The holder that failed, and how.
        self.cause = cause

    def recover(self, timeout: float | None = None) -> RecoveringGuard:
        """Locks the mutex again, to repair the data.

        The poison is cleared when the ``with`` block ends without an exception.
        """
        return self.mutex.recover(timeout)
