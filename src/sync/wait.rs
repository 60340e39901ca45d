//! The four ways to wait, for every condition variable that implements [`Wait`].

use std::time::Duration;

use super::guard::ShmMutexGuard;
use super::raw_mutex::{LockToken, RawLockError, RawMutex};
use crate::error::{LockError, LockResult};
use crate::os::clock::Deadline;

/// The one operation that a condition variable implements.
pub(super) trait Wait {
    /// Unlocks, waits for a notification or the deadline, and locks again. After an
    /// error this thread does not hold the lock.
    fn wait_raw(
        &self,
        mutex: &RawMutex,
        token: LockToken,
        deadline: Option<Deadline>,
    ) -> Result<(LockToken, WaitTimeoutResult), RawLockError>;
}

/// The result of a wait with a timeout: it tells whether the timeout ended the wait.
///
/// ```
/// use shm_sync::{Segment, ShmCondvar, ShmMutex};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let shared = Segment::anonymous((ShmMutex::new(false), ShmCondvar::new()))?;
/// let (ready, changed) = &*shared;
/// let guard = ready.lock()?;
/// let (guard, result) =
///     changed.wait_timeout_while(guard, Duration::from_millis(1), |ready| !*ready)?;
/// assert!(result.timed_out());
/// assert!(!*guard);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult {
    pub(super) timed_out: bool,
}

impl WaitTimeoutResult {
    /// Returns whether the timeout ended the wait.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }
}

/// The result of a wait with a timeout: the guard and whether the timeout ended the
/// wait, or the error of the lock. [`LockError::Poisoned`] does not tell whether the
/// timeout passed.
pub type WaitTimeoutLockResult<'a, T> =
    Result<(ShmMutexGuard<'a, T>, WaitTimeoutResult), LockError<ShmMutexGuard<'a, T>>>;

/// Waits once.
pub(super) fn wait<'a, T: ?Sized>(
    on: &impl Wait,
    guard: ShmMutexGuard<'a, T>,
) -> LockResult<ShmMutexGuard<'a, T>> {
    wait_until(on, guard, None).map(|(guard, _)| guard)
}

/// Waits while `condition` is true.
pub(super) fn wait_while<'a, T: ?Sized>(
    on: &impl Wait,
    mut guard: ShmMutexGuard<'a, T>,
    mut condition: impl FnMut(&mut T) -> bool,
) -> LockResult<ShmMutexGuard<'a, T>> {
    while condition(&mut guard) {
        guard = wait(on, guard)?;
    }
    Ok(guard)
}

/// Waits once, at most for `timeout`.
pub(super) fn wait_timeout<'a, T: ?Sized>(
    on: &impl Wait,
    guard: ShmMutexGuard<'a, T>,
    timeout: Duration,
) -> WaitTimeoutLockResult<'a, T> {
    wait_until(on, guard, Some(Deadline::after(timeout)))
}

/// Waits while `condition` is true, at most for `timeout`.
pub(super) fn wait_timeout_while<'a, T: ?Sized>(
    on: &impl Wait,
    mut guard: ShmMutexGuard<'a, T>,
    timeout: Duration,
    mut condition: impl FnMut(&mut T) -> bool,
) -> WaitTimeoutLockResult<'a, T> {
    let deadline = Deadline::after(timeout);
    loop {
        if !condition(&mut guard) {
            return Ok((guard, WaitTimeoutResult { timed_out: false }));
        }
        if deadline.has_passed() {
            return Ok((guard, WaitTimeoutResult { timed_out: true }));
        }
        guard = wait_until(on, guard, Some(deadline))?.0;
    }
}

fn wait_until<'a, T: ?Sized>(
    on: &impl Wait,
    guard: ShmMutexGuard<'a, T>,
    deadline: Option<Deadline>,
) -> WaitTimeoutLockResult<'a, T> {
    let (cell, token) = guard.into_parts();
    match on.wait_raw(&cell.raw, token, deadline) {
        Ok((token, result)) => cell.guard(token).map(|guard| (guard, result)),
        Err(error) => {
            let Ok(error) = error.without_guard();
            Err(error)
        }
    }
}

/// Implements `wait`, `wait_while`, `wait_timeout` and `wait_timeout_while` for a type
/// that implements [`Wait`]. The documentation of `wait` lists `more_errors` as well.
macro_rules! wait_methods {
    ($condvar:ident $(, $(#[$more_errors:meta])+)?) => {
        /// Waiting.
        ///
        /// Each method takes the guard of the mutex, unlocks the mutex while it waits,
        /// and returns a guard again.
        ///
        /// ```
        #[doc = concat!("use shm_sync::{Segment, ", stringify!($condvar), ", ShmMutex};")]
        /// use std::time::Duration;
        ///
        /// # fn main() -> Result<(), shm_sync::Error> {
        #[doc = concat!("let pair = (ShmMutex::new(0), ", stringify!($condvar), "::new());")]
        /// let shared = Segment::anonymous(pair)?;
        /// let (jobs, changed) = &*shared;
        ///
        /// std::thread::scope(|s| {
        ///     s.spawn(|| -> Result<(), shm_sync::Error> {
        ///         *jobs.lock()? += 1;
        ///         changed.notify_all();
        ///         Ok(())
        ///     });
        ///
        ///     let mut guard = jobs.lock()?;
        ///     while *guard == 0 {
        ///         guard = changed.wait(guard)?;
        ///     }
        ///     // The same loop:
        ///     guard = changed.wait_while(guard, |jobs| *jobs == 0)?;
        ///
        ///     let second = Duration::from_secs(1);
        ///     let (guard, result) =
        ///         changed.wait_timeout_while(guard, second, |jobs| *jobs == 0)?;
        ///     assert!(!result.timed_out() && *guard == 1);
        ///
        ///     let (guard, _) = changed.wait_timeout(guard, Duration::from_millis(1))?;
        ///     assert_eq!(*guard, 1);
        ///     Ok(())
        /// })
        /// # }
        /// ```
        impl $condvar {
            /// Unlocks, waits for a notification, and locks again.
            ///
            /// It may return without a notification, so check the condition in a loop.
            ///
            /// # Errors
            ///
            /// * [`LockError::Poisoned`]: the mutex is locked, and its data may be
            ///   inconsistent.
            /// * [`LockError::NotOwner`]: the guard was inherited over a fork, or C
            ///   code has unlocked the mutex.
            /// * [`LockError::TooManyLocks`]: C code has locked more mutexes in this
            ///   thread than the kernel recovers, before or during the wait. The mutex
            ///   is not locked.
            /// * [`LockError::NotRecoverable`], [`LockError::Os`]: the mutex is not
            ///   locked; see there.
            $($(#[$more_errors])+)?
            pub fn wait<'a, T: ?Sized>(
                &self,
                guard: ShmMutexGuard<'a, T>,
            ) -> LockResult<ShmMutexGuard<'a, T>> {
                wait::wait(self, guard)
            }

            /// Waits while `condition` is true.
            ///
            /// # Errors
            ///
            /// Those of [`wait`](Self::wait). Poison ends the wait even while
            /// `condition` is true. To repair the data and continue to wait, write the
            /// loop:
            ///
            /// ```
            /// # use shm_sync::*;
            #[doc = concat!(
                "# fn wait(pending: &ShmMutex<u64>, changed: &",
                stringify!($condvar),
                ") -> Result<(), Error> {"
            )]
            /// fn recover(
            ///     result: LockResult<ShmMutexGuard<'_, u64>>,
            /// ) -> Result<ShmMutexGuard<'_, u64>, Error> {
            ///     match result {
            ///         Err(LockError::Poisoned(p)) => Ok(p.recover(|n| *n = 0)),
            ///         other => Ok(other?),
            ///     }
            /// }
            ///
            /// let mut guard = recover(pending.lock())?;
            /// while *guard == 0 {
            ///     guard = recover(changed.wait(guard))?;
            /// }
            /// # Ok(())
            /// # }
            /// ```
            pub fn wait_while<'a, T: ?Sized>(
                &self,
                guard: ShmMutexGuard<'a, T>,
                condition: impl FnMut(&mut T) -> bool,
            ) -> LockResult<ShmMutexGuard<'a, T>> {
                wait::wait_while(self, guard, condition)
            }

            /// Waits for a notification, at most for `timeout`. Locking the mutex again
            /// is not part of the timeout.
            ///
            /// # Errors
            ///
            /// Those of [`wait`](Self::wait). A timeout is not an error: see
            /// [`WaitTimeoutResult::timed_out`](crate::WaitTimeoutResult::timed_out).
            pub fn wait_timeout<'a, T: ?Sized>(
                &self,
                guard: ShmMutexGuard<'a, T>,
                timeout: Duration,
            ) -> WaitTimeoutLockResult<'a, T> {
                wait::wait_timeout(self, guard, timeout)
            }

            /// Waits while `condition` is true, at most for `timeout` in all.
            /// `timed_out()` then means that the condition is still true.
            ///
            /// # Errors
            ///
            /// Those of [`wait_while`](Self::wait_while).
            pub fn wait_timeout_while<'a, T: ?Sized>(
                &self,
                guard: ShmMutexGuard<'a, T>,
                timeout: Duration,
                condition: impl FnMut(&mut T) -> bool,
            ) -> WaitTimeoutLockResult<'a, T> {
                wait::wait_timeout_while(self, guard, timeout, condition)
            }
        }
    };
}
pub(super) use wait_methods;
