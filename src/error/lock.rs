//! The errors of locks: why a lock was not taken, and the guard that a poisoned lock
//! still hands out.

use std::fmt;
use std::io;

use thiserror::Error as ThisError;

/// What a lock method returns: the guard, or why there is none, or the guard
/// together with the news that the data may be half-changed.
pub type LockResult<G> = Result<G, LockError<G>>;

/// Why a lock was not simply taken.
///
/// In one case the lock *is* held all the same: [`Poisoned`](Self::Poisoned)
/// carries the guard. Dropping the error unlocks it.
///
/// # The question mark
///
/// In a function that returns `Result<_, shm_sync::Error>`, `?` turns this into
/// an [`Error`](crate::Error), which drops the guard. A `Box<dyn std::error::Error>` can't
/// hold the guard's borrow, so name the error there:
///
/// ```
/// # use shm_sync::{Segment, ShmMutex};
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
///     *counter.lock().map_err(shm_sync::Error::from)? += 1;
///     Ok(())
/// }
/// ```
#[non_exhaustive]
#[derive(ThisError)]
pub enum LockError<G> {
    /// The lock is held, but its last holder died or panicked inside, and
    /// nobody has repaired the data since.
    #[error("the lock is held, but its data may be half-changed: {}", .0.cause)]
    Poisoned(Poisoned<G>),
    /// Somebody else holds the lock, and the caller did not want to wait.
    #[error("the lock is held by another thread or process")]
    WouldBlock,
    /// Somebody else held the lock until the deadline.
    #[error("the lock was not free before the deadline")]
    TimedOut,
    /// This thread holds the lock already, so waiting for it would never end.
    #[error("this thread already holds the lock")]
    Deadlock,
    /// The lock is a value in ordinary memory: it comes to life when a
    /// segment, or [`place_at`](crate::place_at), places it.
    #[error("the lock is not placed in shared memory yet: create a Segment with it")]
    NotPlaced,
    /// This thread holds as many robust locks as the kernel can recover when
    /// it dies ([`MAX_LOCKS_HELD`](crate::MAX_LOCKS_HELD)), with those that C code or
    /// another copy of this crate has taken. Unlock some first.
    #[error("this thread holds as many locks as the kernel recovers when it dies: unlock some")]
    TooManyLocks,
    /// The lock belongs to another pid namespace (a container). Thread ids,
    /// by which locks know their owners, mean something else there.
    #[error(
        "the lock belongs to another pid namespace: let both containers share one (`--pid=...`)"
    )]
    ForeignPidNamespace,
    /// A program outside this crate unlocked the `pthread_mutex_t` without
    /// making it consistent after its owner had died. pthread refuses it for
    /// ever; see [`ShmMutex::reset`](crate::ShmMutex::reset).
    #[error("a foreign program left the pthread mutex unrecoverable: reset or recreate it")]
    NotRecoverable,
    /// A [`PthreadCondvar`](crate::PthreadCondvar) can't wait with a mutex that inherits
    /// priorities, because glibc does not lock such a mutex safely. The mutex is
    /// released. [`ShmCondvar`](crate::ShmCondvar) can wait with it.
    #[error(
        "a PthreadCondvar can't wait with a mutex that inherits priorities: use a ShmCondvar, \
         or a mutex without priority inheritance"
    )]
    PriorityInheritance,
    /// This thread does not hold the lock of the guard. It came over a fork, and the
    /// parent holds it; or C code has unlocked it.
    #[error(
        "this thread does not hold the guard's lock: the guard was inherited over a fork, \
         or C code has unlocked it"
    )]
    NotOwner,
    /// This process can't tell who it is, so it can't own a lock.
    #[error(transparent)]
    Unidentified(#[from] IdentityError),
    /// The operating system refused. The lock is not held.
    #[error("the operating system refused to lock or to wait")]
    Os(#[source] io::Error),
}

impl<G> LockError<G> {
    /// Changes the guard inside, if there is one.
    pub(crate) fn map_guard<H>(self, f: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            Self::Poisoned(Poisoned { guard, cause }) => LockError::Poisoned(Poisoned {
                guard: f(guard),
                cause,
            }),
            Self::WouldBlock => LockError::WouldBlock,
            Self::TimedOut => LockError::TimedOut,
            Self::Deadlock => LockError::Deadlock,
            Self::NotPlaced => LockError::NotPlaced,
            Self::TooManyLocks => LockError::TooManyLocks,
            Self::ForeignPidNamespace => LockError::ForeignPidNamespace,
            Self::NotRecoverable => LockError::NotRecoverable,
            Self::PriorityInheritance => LockError::PriorityInheritance,
            Self::NotOwner => LockError::NotOwner,
            Self::Unidentified(error) => LockError::Unidentified(error),
            Self::Os(error) => LockError::Os(error),
        }
    }
}

/// By hand, so that a guard need not be `Debug` for `unwrap` to work.
impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisoned(poisoned) => f.debug_tuple("Poisoned").field(&poisoned.cause).finish(),
            Self::Unidentified(error) => f.debug_tuple("Unidentified").field(error).finish(),
            Self::Os(error) => f.debug_tuple("Os").field(error).finish(),
            Self::WouldBlock => f.write_str("WouldBlock"),
            Self::TimedOut => f.write_str("TimedOut"),
            Self::Deadlock => f.write_str("Deadlock"),
            Self::NotPlaced => f.write_str("NotPlaced"),
            Self::TooManyLocks => f.write_str("TooManyLocks"),
            Self::ForeignPidNamespace => f.write_str("ForeignPidNamespace"),
            Self::NotRecoverable => f.write_str("NotRecoverable"),
            Self::PriorityInheritance => f.write_str("PriorityInheritance"),
            Self::NotOwner => f.write_str("NotOwner"),
        }
    }
}

/// A lock that is held although its last holder died or panicked inside.
///
/// The idea is [`std::sync::PoisonError`]'s, made to survive processes: the
/// poison is a flag in the shared memory, and every process sees it until
/// somebody repairs the data with [`recover`](Poisoned::recover) or vouches for it with
/// [`ShmMutex::clear_poison`](crate::ShmMutex::clear_poison).
///
/// Dropping this unlocks and changes nothing else.
#[must_use = "the lock is held: repair the data with `recover`, or drop this to unlock"]
pub struct Poisoned<G> {
    pub(crate) guard: G,
    pub(crate) cause: PoisonCause,
}

impl<G> Poisoned<G> {
    /// Who left the data in doubt, and how.
    pub fn cause(&self) -> PoisonCause {
        self.cause
    }

    /// The guard, to look at the data.
    pub fn get_ref(&self) -> &G {
        &self.guard
    }

    /// The guard, to change the data. The flag stays.
    pub fn get_mut(&mut self) -> &mut G {
        &mut self.guard
    }

    /// The guard, to use the data as it is. The flag stays, so the next locker
    /// is told as well.
    pub fn into_inner(self) -> G {
        self.guard
    }
}

impl<G> fmt::Display for Poisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the data may be half-changed: {}", self.cause)
    }
}

impl<G> fmt::Debug for Poisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poisoned")
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

/// How the data under a lock came to be in doubt.
///
/// The ids are those of the lock's pid namespace. They name who it *was*: the
/// system may have given them to somebody else since.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoisonCause {
    /// The holder ended with the lock held: killed by a signal, `exit`, `exec`
    /// of the main thread, or the end of its thread.
    #[non_exhaustive]
    OwnerDied {
        /// The process, or 0 if it is unknown. That is so if C code held the lock, which
        /// leaves no name beside it, and if the holder died within the few
        /// instructions right after it took the lock, or right before it gave it back.
        pid: u32,
        /// The thread, or 0 if it is unknown. It may be known where the process is not.
        tid: u32,
    },
    /// The holder panicked with the lock held.
    #[non_exhaustive]
    Panicked {
        /// The process.
        pid: u32,
        /// The thread.
        tid: u32,
    },
}

impl PoisonCause {
    /// The process that left the data in doubt, however it did; 0 if unknown.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match *self {
            Self::OwnerDied { pid, .. } | Self::Panicked { pid, .. } => pid,
        }
    }

    /// The thread that left the data in doubt, however it did; 0 if unknown.
    #[must_use]
    pub fn tid(&self) -> u32 {
        match *self {
            Self::OwnerDied { tid, .. } | Self::Panicked { tid, .. } => tid,
        }
    }
}

impl fmt::Display for PoisonCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied { pid: 0, tid: 0 } => write!(f, "its last holder died"),
            Self::OwnerDied { pid: 0, tid } => write!(f, "its last holder died (thread {tid})"),
            Self::OwnerDied { pid, tid } => {
                write!(f, "its last holder died (process {pid}, thread {tid})")
            }
            Self::Panicked { pid, tid } => {
                write!(f, "its last holder panicked (process {pid}, thread {tid})")
            }
        }
    }
}

/// Why a process can't tell who it is in terms that locks understand.
#[non_exhaustive]
#[derive(Debug, ThisError)]
pub enum IdentityError {
    /// The pid namespace is unknown: this process can't read `/proc/self/ns/pid`, and
    /// the kernel has no `PIDFD_GET_PID_NAMESPACE` (Linux 6.11). Each process asks once,
    /// and so does each forked child, for example after a `chroot`. Before Linux 6.11,
    /// mount `/proc` in the new root.
    #[error(
        "the pid namespace can't be read from /proc/self/ns/pid: \
         mount /proc (in a chroot as well), or use Linux 6.11"
    )]
    NoPidNamespace(#[source] io::Error),
    /// This process can't read `/proc/sys/kernel/random/boot_id`, so it is unknown
    /// whether the locks in a file on a disk are of this boot of the machine. POSIX
    /// objects, anonymous and System V segments need no boot id.
    #[error(
        "the id of this boot can't be read from /proc/sys/kernel/random/boot_id, and a segment \
         in a file needs it: mount all of /proc (without subset=pid), or use a segment in memory"
    )]
    NoBootId(#[source] io::Error),
    /// The process was made by a bare `clone` system call. pthread believes
    /// that it still is the parent, and the kernel would not release its locks.
    #[error("this process was made by a raw clone(2), where pthread locks don't work: use fork(2)")]
    RawClone,
    /// The system has no robust lists, by which the kernel knows the locks of a thread
    /// that dies. It is an emulator (qemu-user), or a sandbox that refuses
    /// `get_robust_list(2)` or `set_robust_list(2)`.
    #[error(
        "this system has no robust lists, without which locks can't survive their holders: \
         run on a real Linux kernel, and let the sandbox permit get_robust_list(2) and \
         set_robust_list(2)"
    )]
    NoRobustLists(#[source] io::Error),
    /// The kernel has no `MADV_WIPEONFORK` (Linux 4.14), by which forks are
    /// noticed.
    #[error("forks can't be noticed here: madvise(MADV_WIPEONFORK) was refused")]
    NoForkDetection(#[source] io::Error),
}
