//! `OrRecover`: repairs the data in one call, whatever call has locked.

use crate::error::{Error, PoisonCause};

/// Repairs the data if the lock is poisoned, so that only real errors remain.
///
/// It is for every result that may have the guard of a poisoned lock:
/// [`LockResult`](crate::LockResult) and
/// [`WaitTimeoutLockResult`](crate::WaitTimeoutLockResult). For
/// [`lock`](crate::ShmMutex::lock) there is
/// [`ShmMutex::lock_or_recover`](crate::ShmMutex::lock_or_recover), which needs no
/// import.
///
/// ```
/// use shm_sync::{OrRecover, Segment, ShmCondvar, ShmMutex};
/// use std::time::Duration;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let shared = Segment::anonymous((ShmMutex::new(0_u64), ShmCondvar::new()))?;
///     let (jobs, changed) = &*shared;
///
///     let second = Duration::from_secs(1);
///     let mut guard = jobs.try_lock_for(second).or_recover(|jobs, _| *jobs = 0)?;
///     *guard = 1;
///     while *guard == 0 {
///         guard = changed.wait(guard).or_recover(|jobs, cause| {
///             eprintln!("no jobs are left: {cause}");
///             *jobs = 0;
///         })?;
///     }
///     Ok(())
/// }
/// ```
///
/// No type outside this crate can implement it.
///
/// In the cookbook: [a pool of workers](crate::guide::cookbook#a-pool-of-workers).
pub trait OrRecover: sealed::Sealed {
    /// The data under the lock.
    type Data: ?Sized;
    /// The guard, with a [`WaitTimeoutResult`](crate::WaitTimeoutResult) after a wait
    /// with a timeout.
    type Acquired;

    /// Returns the guard. If the lock is poisoned, first repairs the data with `repair`
    /// and clears the poison, as [`Poisoned::recover`](crate::Poisoned::recover) does.
    ///
    /// After a repair, [`timed_out`](crate::WaitTimeoutResult::timed_out) is false,
    /// even if the timeout has passed meanwhile. The condition may still be true, so
    /// check it, and bound the whole by a deadline. The methods
    /// [`wait_while_or_recover`](crate::ShmCondvar::wait_while_or_recover) and
    /// [`wait_timeout_while_or_recover`][timeout_while] do that.
    ///
    /// [timeout_while]: crate::ShmCondvar::wait_timeout_while_or_recover
    ///
    /// # Errors
    ///
    /// The errors of the call that has locked, as an [`Error`]. It is never
    /// [`Error::Poisoned`].
    ///
    /// # Panics
    ///
    /// If `repair` panics, the lock is released and stays poisoned, now with
    /// [`PoisonCause::Panicked`].
    ///
    /// # Crash behaviour
    ///
    /// If the process dies in `repair`, the lock stays poisoned. The next locker must
    /// repair the changes of both holders.
    fn or_recover(
        self,
        repair: impl FnOnce(&mut Self::Data, PoisonCause),
    ) -> Result<Self::Acquired, Error>;
}

pub(super) mod sealed {
    pub trait Sealed {}
}
