//! The ways to wait, for every condition variable that implements [`Wait`].

use super::guard::ShmMutexGuard;
use super::or_recover::{OrRecover, sealed};
use super::raw_mutex::RawMutex;
use super::robust_lock::{LockToken, RawLockError};
use crate::error::{Error, LockError, LockResult, PoisonCause};
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

impl<T: ?Sized> sealed::Sealed for WaitTimeoutLockResult<'_, T> {}

impl<'a, T: ?Sized> OrRecover for WaitTimeoutLockResult<'a, T> {
    type Data = T;
    type Acquired = (ShmMutexGuard<'a, T>, WaitTimeoutResult);

    fn or_recover(
        self,
        repair: impl FnOnce(&mut T, PoisonCause),
    ) -> Result<(ShmMutexGuard<'a, T>, WaitTimeoutResult), Error> {
        // The result with the guard alone has the same errors. With poison, it does not
        // tell whether the timeout has passed.
        let mut result = WaitTimeoutResult { timed_out: false };
        let guard = self.map(|(guard, of_wait)| {
            result = of_wait;
            guard
        });
        Ok((guard.or_recover(repair)?, result))
    }
}

/// Waits once.
pub(super) fn wait<'a, T: ?Sized>(
    on: &impl Wait,
    guard: ShmMutexGuard<'a, T>,
) -> LockResult<ShmMutexGuard<'a, T>> {
    wait_at_most(on, guard, None).map(|(guard, _)| guard)
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

/// Waits while `condition` is true, and repairs the data after each owner death.
pub(super) fn wait_while_or_recover<'a, T: ?Sized>(
    on: &impl Wait,
    mut guard: ShmMutexGuard<'a, T>,
    mut condition: impl FnMut(&mut T) -> bool,
    mut repair: impl FnMut(&mut T, PoisonCause),
) -> Result<ShmMutexGuard<'a, T>, Error> {
    while condition(&mut guard) {
        guard = wait(on, guard).or_recover(&mut repair)?;
    }
    Ok(guard)
}

/// Waits once, at most until `deadline`.
pub(super) fn wait_until<'a, T: ?Sized>(
    on: &impl Wait,
    guard: ShmMutexGuard<'a, T>,
    deadline: Deadline,
) -> WaitTimeoutLockResult<'a, T> {
    wait_at_most(on, guard, Some(deadline))
}

/// Waits while `condition` is true, at most until `deadline`.
pub(super) fn wait_while_until<'a, T: ?Sized>(
    on: &impl Wait,
    mut guard: ShmMutexGuard<'a, T>,
    deadline: Deadline,
    mut condition: impl FnMut(&mut T) -> bool,
) -> WaitTimeoutLockResult<'a, T> {
    loop {
        if let Some(result) = end_of_wait(condition(&mut guard), deadline) {
            return Ok((guard, result));
        }
        guard = wait_until(on, guard, deadline)?.0;
    }
}

/// Waits while `condition` is true, at most until `deadline`, and repairs the data
/// after each owner death.
pub(super) fn wait_while_until_or_recover<'a, T: ?Sized>(
    on: &impl Wait,
    mut guard: ShmMutexGuard<'a, T>,
    deadline: Deadline,
    mut condition: impl FnMut(&mut T) -> bool,
    mut repair: impl FnMut(&mut T, PoisonCause),
) -> Result<(ShmMutexGuard<'a, T>, WaitTimeoutResult), Error> {
    loop {
        if let Some(result) = end_of_wait(condition(&mut guard), deadline) {
            return Ok((guard, result));
        }
        guard = wait_until(on, guard, deadline).or_recover(&mut repair)?.0;
    }
}

/// Returns the result of a wait that ends now, or `None` if it goes on.
fn end_of_wait(condition: bool, deadline: Deadline) -> Option<WaitTimeoutResult> {
    (!condition || deadline.has_passed()).then_some(WaitTimeoutResult {
        timed_out: condition,
    })
}

fn wait_at_most<'a, T: ?Sized>(
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

/// Implements the methods that wait for a type that implements [`Wait`]. The
/// documentation of `wait` lists `more_errors` as well.
macro_rules! wait_methods {
    ($condvar:ident $(, $(#[$more_errors:meta])+)?) => {
        /// # Waiting
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
            /// An example of all waits is [above](#waiting).
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
            /// `condition` is true.
            /// [`wait_while_or_recover`](Self::wait_while_or_recover) repairs the data
            /// and continues to wait.
            ///
            /// # Panics
            ///
            /// If `condition` panics, the lock is released and poisoned. The other
            /// methods with a condition do the same.
            pub fn wait_while<'a, T: ?Sized>(
                &self,
                guard: ShmMutexGuard<'a, T>,
                condition: impl FnMut(&mut T) -> bool,
            ) -> LockResult<ShmMutexGuard<'a, T>> {
                wait::wait_while(self, guard, condition)
            }

            /// Waits while `condition` is true. If a holder dies or panics meanwhile,
            /// repairs the data with `repair`, which runs with the lock held, clears
            /// the poison, and continues to wait.
            ///
            /// `repair` may run several times. After each run, `condition` is checked
            /// again.
            ///
            /// ```
            /// # use shm_sync::*;
            #[doc = concat!(
                "fn take_job(pending: &ShmMutex<u64>, changed: &",
                stringify!($condvar),
                ") -> Result<(), Error> {"
            )]
            ///     // A number is never half changed, so there is nothing to repair.
            ///     let pending = pending.lock_or_recover(|_, _| ())?;
            ///     let mut pending =
            ///         changed.wait_while_or_recover(pending, |n| *n == 0, |_, _| ())?;
            ///     *pending -= 1;
            ///     Ok(())
            /// }
            #[doc = concat!(
                "# let pair = (ShmMutex::new(1), ",
                stringify!($condvar),
                "::new());"
            )]
            /// # let shared = Segment::anonymous(pair)?;
            /// # take_job(&shared.0, &shared.1)?;
            /// # Ok::<(), Error>(())
            /// ```
            ///
            /// # Errors
            ///
            /// Those of [`wait`](Self::wait), as an [`Error`], except
            /// [`Error::Poisoned`].
            ///
            /// # Panics
            ///
            /// If `repair` panics, the lock is released and stays poisoned.
            ///
            /// # Crash behaviour
            ///
            /// The documentation of the type says when a waiter learns of a death. If
            /// the process dies in `repair`, the lock stays poisoned. The next locker
            /// or waiter must repair the changes of both holders.
            pub fn wait_while_or_recover<'a, T: ?Sized>(
                &self,
                guard: ShmMutexGuard<'a, T>,
                condition: impl FnMut(&mut T) -> bool,
                repair: impl FnMut(&mut T, PoisonCause),
            ) -> Result<ShmMutexGuard<'a, T>, Error> {
                wait::wait_while_or_recover(self, guard, condition, repair)
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
                wait::wait_until(self, guard, Deadline::after(timeout))
            }

            /// Waits while `condition` is true, at most for `timeout` in all.
            /// [`timed_out`](crate::WaitTimeoutResult::timed_out) then means that the
            /// condition is still true.
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
                wait::wait_while_until(self, guard, Deadline::after(timeout), condition)
            }

            /// Waits while `condition` is true, at most for `timeout` in all, and
            /// repairs the data like
            /// [`wait_while_or_recover`](Self::wait_while_or_recover).
            ///
            /// The timeout includes all waits and repairs, but it interrupts no
            /// repair. [`timed_out`](crate::WaitTimeoutResult::timed_out) then means
            /// that the condition is still true.
            ///
            /// # Errors
            ///
            /// Those of [`wait_while_or_recover`](Self::wait_while_or_recover).
            ///
            /// # Panics
            ///
            /// If `repair` panics, the lock is released and stays poisoned.
            pub fn wait_timeout_while_or_recover<'a, T: ?Sized>(
                &self,
                guard: ShmMutexGuard<'a, T>,
                timeout: Duration,
                condition: impl FnMut(&mut T) -> bool,
                repair: impl FnMut(&mut T, PoisonCause),
            ) -> Result<(ShmMutexGuard<'a, T>, WaitTimeoutResult), Error> {
                let deadline = Deadline::after(timeout);
                wait::wait_while_until_or_recover(self, guard, deadline, condition, repair)
            }

            /// Waits for a notification, at most until `deadline`. Locking the mutex
            /// again may take longer.
            ///
            /// [`std::sync::Condvar`] has no waits with an [`Instant`]. This name and
            /// [`wait_while_until`](Self::wait_while_until) are those of parking_lot,
            /// and they match
            /// [`try_lock_until`](crate::ShmMutex::try_lock_until).
            ///
            /// # Errors
            ///
            /// Those of [`wait_timeout`](Self::wait_timeout).
            pub fn wait_until<'a, T: ?Sized>(
                &self,
                guard: ShmMutexGuard<'a, T>,
                deadline: Instant,
            ) -> WaitTimeoutLockResult<'a, T> {
                wait::wait_until(self, guard, Deadline::at(deadline))
            }

            /// Waits while `condition` is true, at most until `deadline`.
            /// [`timed_out`](crate::WaitTimeoutResult::timed_out) then means that the
            /// condition is still true.
            ///
            /// The name is that of parking_lot. The arguments have the order of
            /// [`wait_timeout_while`](Self::wait_timeout_while), with the closure at
            /// the end.
            ///
            /// ```
            #[doc = concat!("use shm_sync::{Segment, ", stringify!($condvar), ", ShmMutex};")]
            /// use std::time::{Duration, Instant};
            ///
            /// # fn main() -> Result<(), shm_sync::Error> {
            #[doc = concat!("let pair = (ShmMutex::new(0), ", stringify!($condvar), "::new());")]
            /// let shared = Segment::anonymous(pair)?;
            /// let (jobs, changed) = &*shared;
            /// let deadline = Instant::now() + Duration::from_millis(2);
            /// let jobs = jobs.lock()?;
            /// let (jobs, result) =
            ///     changed.wait_while_until(jobs, deadline, |jobs| *jobs == 0)?;
            /// assert!(result.timed_out() && *jobs == 0);
            /// # Ok(())
            /// # }
            /// ```
            ///
            /// # Errors
            ///
            /// Those of [`wait_while`](Self::wait_while).
            pub fn wait_while_until<'a, T: ?Sized>(
                &self,
                guard: ShmMutexGuard<'a, T>,
                deadline: Instant,
                condition: impl FnMut(&mut T) -> bool,
            ) -> WaitTimeoutLockResult<'a, T> {
                wait::wait_while_until(self, guard, Deadline::at(deadline), condition)
            }
        }
    };
}
pub(super) use wait_methods;
