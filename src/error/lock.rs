//! The errors of locks. The error of a poisoned lock has the guard.

use std::convert::Infallible;
use std::fmt;
use std::io;

use thiserror::Error as ThisError;

use super::identity::IdentityError;

/// The result of a lock method: the guard, or a [`LockError`].
pub type LockResult<G> = Result<G, LockError<G>>;

/// Why a lock was not acquired, or was acquired with poisoned data.
///
/// In the case of [`Poisoned`](Self::Poisoned) this thread *holds* the lock, and the
/// error has the guard. Dropping the error unlocks.
///
/// ```
/// use shm_sync::{LockError, Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
/// match counter.try_lock() {
///     Ok(mut count) => *count += 1,
///     Err(LockError::Poisoned(poisoned)) => *poisoned.recover(|count| *count = 0) += 1,
///     Err(LockError::WouldBlock) => println!("another time"),
///     Err(other) => return Err(other.into()),
/// }
/// # Ok(())
/// # }
/// ```
///
/// In the cookbook:
/// [a pool of workers](crate::guide::cookbook#a-pool-of-workers).
///
/// # The question mark
///
/// In a function that returns `Result<_, shm_sync::Error>`, `?` turns this into an
/// [`Error`](crate::Error), and drops the guard. A [`Box<dyn std::error::Error>`](Box)
/// and an `anyhow::Error` can't contain the guard, because it borrows the mutex. There,
/// [`lock_or_recover`](crate::ShmMutex::lock_or_recover) and
/// [`or_recover`](crate::OrRecover::or_recover) work with `?`. Without a repair, name
/// the error:
///
/// ```
/// # use shm_sync::{Segment, ShmMutex};
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
///     *counter.lock_or_recover(|count, _| *count = 0)? += 1;
///     *counter.lock().map_err(shm_sync::Error::from)? += 1;
///     Ok(())
/// }
/// ```
#[non_exhaustive]
#[derive(ThisError)]
pub enum LockError<G> {
    /// This thread holds the lock, but the data may be inconsistent: a holder died or
    /// panicked, and no process has repaired the data since.
    #[error("the lock is held, but its data may be inconsistent: {}", .0.cause)]
    Poisoned(Poisoned<G>),
    /// A thread holds the lock, possibly this one, and the call does not wait.
    #[error("the lock is held, possibly by this thread")]
    WouldBlock,
    /// Another thread held the lock until the deadline.
    #[error("the lock was not free before the deadline")]
    TimedOut,
    /// This thread already holds the lock, so waiting would never end.
    #[error("this thread already holds the lock")]
    Deadlock,
    /// The lock is a value in ordinary memory. A segment, or
    /// [`place_at`](crate::place_at), initialises it.
    #[error("the lock is not placed in shared memory yet: create a Segment with it")]
    NotPlaced,
    /// This thread holds as many robust locks as the kernel can recover when it dies
    /// ([`MAX_LOCKS_HELD`](crate::MAX_LOCKS_HELD)). Those of C code and of other copies
    /// of this crate count. Unlock some first.
    #[error("this thread holds as many locks as the kernel recovers when it dies: unlock some")]
    TooManyLocks,
    /// The lock belongs to another pid namespace (a container), where the thread ids
    /// of its holders mean other threads.
    #[error(
        "the lock belongs to another pid namespace: let both containers share one (`--pid=...`)"
    )]
    ForeignPidNamespace,
    /// After an owner death, a program outside this crate unlocked the
    /// `pthread_mutex_t` without making it consistent. pthread refuses it for ever; see
    /// [`ShmMutex::reset`](crate::ShmMutex::reset).
    #[error("a foreign program left the pthread mutex unrecoverable: reset or recreate it")]
    NotRecoverable,
    /// A [`PthreadCondvar`](crate::PthreadCondvar) can't wait with a mutex with
    /// priority inheritance, because libc does not lock such a mutex safely. The mutex
    /// is unlocked. [`ShmCondvar`](crate::ShmCondvar) can wait with it.
    #[error(
        "a PthreadCondvar can't wait with a mutex with priority inheritance: use a ShmCondvar, \
         or a mutex without priority inheritance"
    )]
    PriorityInheritance,
    /// This thread does not hold the lock of the guard. The guard was inherited over a
    /// fork, and the parent holds the lock; or C code has unlocked it.
    #[error(
        "this thread does not hold the guard's lock: the guard was inherited over a fork, \
         or C code has unlocked it"
    )]
    NotOwner,
    /// This process can't own locks.
    #[error(transparent)]
    Unidentified(#[from] IdentityError),
    /// The operating system refused the call. The lock is not held.
    #[error(
        "the operating system refused to lock or to wait: if this is a sandbox, let it \
         permit futex(2)"
    )]
    Os(#[source] io::Error),
}

impl LockError<Infallible> {
    /// Returns the error as one of a lock with data.
    #[cold]
    pub(crate) fn into_lock_error<G>(self) -> LockError<G> {
        let Ok(error) = self.without_guard();
        error
    }
}

impl<G> LockError<G> {
    /// Converts an error without a guard to the error of any guard. Returns the guard
    /// of a poisoned lock otherwise.
    pub(crate) fn without_guard<H>(self) -> Result<LockError<H>, Poisoned<G>> {
        Ok(match self {
            Self::Poisoned(poisoned) => return Err(poisoned),
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
        })
    }
}

/// Not derived, because `unwrap` must work if `G` is not `Debug`.
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

/// A guard of a lock whose data may be inconsistent, because a holder died or panicked.
///
/// It is like [`std::sync::PoisonError`], but for processes. The poison is a flag in
/// the shared memory. Every locker sees it until one of them repairs the data with
/// [`recover`](Poisoned::recover) or declares it consistent with
/// [`ShmMutex::clear_poison`](crate::ShmMutex::clear_poison).
///
/// Dropping this unlocks and leaves the flag set.
///
/// ```
/// use shm_sync::{LockError, PoisonCause, Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let counter = Segment::anonymous(ShmMutex::new(7_u64))?;
/// # let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
/// #     let _guard = counter.lock();
/// #     panic!("with the lock held");
/// # }));
/// # assert!(died.is_err());
/// // A holder has panicked.
/// let Err(LockError::Poisoned(mut poisoned)) = counter.lock() else {
///     panic!("the mutex is poisoned");
/// };
/// assert!(matches!(poisoned.cause(), PoisonCause::Panicked { .. }));
/// assert_eq!(**poisoned.get_ref(), 7);
/// **poisoned.get_mut() = 8;
/// let guard = poisoned.into_inner();
/// assert_eq!(*guard, 8);
/// assert!(counter.is_poisoned(), "only `recover` and `clear_poison` clear the flag");
/// # Ok(())
/// # }
/// ```
///
/// In the cookbook:
/// [a journal, and a repair](crate::guide::cookbook#a-journal-and-a-repair).
#[must_use = "the lock is held: repair the data with `recover`, or drop this to unlock"]
pub struct Poisoned<G> {
    pub(crate) guard: G,
    pub(crate) cause: PoisonCause,
}

impl<G> Poisoned<G> {
    /// Returns which holder failed most recently, and how. [`Poisoned`] has an example
    /// of all methods.
    pub fn cause(&self) -> PoisonCause {
        self.cause
    }

    /// Returns the guard, to read the data.
    pub fn get_ref(&self) -> &G {
        &self.guard
    }

    /// Returns the guard, to change the data. The flag stays set.
    pub fn get_mut(&mut self) -> &mut G {
        &mut self.guard
    }

    /// Returns the guard, to use the data as it is. The flag stays set, so the next
    /// locker gets this error as well.
    pub fn into_inner(self) -> G {
        self.guard
    }
}

impl<G> fmt::Display for Poisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the data may be inconsistent: {}", self.cause)
    }
}

impl<G> std::error::Error for Poisoned<G> {}

impl<G> fmt::Debug for Poisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poisoned")
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

/// Why the data under a lock may be inconsistent.
///
/// The ids are those of the lock's pid namespace. The kernel may have given them to
/// other processes since.
///
/// In the cookbook:
/// [a journal, and a repair](crate::guide::cookbook#a-journal-and-a-repair).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum PoisonCause {
    /// The holder ended with the lock held: killed by a signal, `exit`, `exec`
    /// of the main thread, or the end of its thread.
    #[non_exhaustive]
    OwnerDied {
        /// The process, or 0 if it is unknown. It is unknown if C code held the lock,
        /// because C code does not record its process id. With musl it may then be that
        /// of an earlier holder: see
        /// [`as_pthread_ptr`](crate::ShmMutex::as_pthread_ptr).
        /// It is unknown, too, if the holder died within a few instructions after it
        /// locked or before it unlocked.
        pid: u32,
        /// The thread, or 0 if it is unknown. It may be known if the process is not.
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
    /// Returns the process id of the holder that failed, or 0 if it is unknown.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// # let counter = Segment::anonymous(ShmMutex::new(7_u64))?;
    /// # let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
    /// #     let _guard = counter.lock();
    /// #     panic!("with the lock held");
    /// # }));
    /// # assert!(died.is_err());
    /// // A thread of this process has panicked.
    /// let Err(LockError::Poisoned(poisoned)) = counter.lock() else {
    ///     panic!("the mutex is poisoned");
    /// };
    /// let cause = poisoned.cause();
    /// assert_eq!(cause.pid(), std::process::id());
    /// assert_ne!(cause.tid(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn pid(&self) -> u32 {
        match *self {
            Self::OwnerDied { pid, .. } | Self::Panicked { pid, .. } => pid,
        }
    }

    /// Returns the thread id of the holder that failed, or 0 if it is unknown: see
    /// [`pid`](Self::pid) for an example.
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
