//! The waiting loop of a thread that does not get a mutex at once.

use crate::os::clock::Deadline;
use crate::os::pthread::Outcome;

/// How long to wait for a mutex that another thread holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Blocking {
    /// Wait until the mutex is free.
    Wait,
    /// Wait until the mutex is free, or the deadline has passed.
    WaitUntil(Deadline),
    /// Do not wait.
    Try,
}

impl Blocking {
    /// Returns the deadline, if there is one.
    pub(crate) fn deadline(self) -> Option<Deadline> {
        match self {
            Self::WaitUntil(deadline) => Some(deadline),
            Self::Wait | Self::Try => None,
        }
    }
}

/// A thread's attempt to lock a mutex.
pub(super) trait Attempt {
    /// Locks the mutex if no thread holds it. Returns [`Outcome::Busy`] if another
    /// thread holds it, and [`Outcome::Deadlock`] if this thread does.
    fn try_lock(&mut self) -> Outcome;

    /// Waits until the mutex may be free, but no longer than until
    /// [`Deadline::next_recheck`].
    ///
    /// Returns [`Outcome::Busy`] if the mutex may be free, [`Outcome::TimedOut`] if the
    /// time has passed, and any other outcome if that is the outcome of the attempt.
    fn wait(&mut self, deadline: Option<Deadline>) -> Outcome;
}

/// Locks a mutex that another thread may hold. Signals don't end the wait.
///
/// A waiter tries again after each
/// [`RECHECK_INTERVAL`](crate::os::clock::RECHECK_INTERVAL), because it can sleep
/// beside a free mutex. The unlocking thread writes 0 to the lock word and then wakes
/// one waiter. If it dies in between, or if the woken waiter dies before it locks, the
/// kernel wakes another waiter, but only if the word is still 0. A third thread may
/// just have locked the mutex, and it does not know that there are waiters.
pub(super) fn lock_contended(attempt: &mut impl Attempt, blocking: Blocking) -> Outcome {
    let deadline = blocking.deadline();
    let mut has_expired = deadline.is_some_and(Deadline::has_passed);
    loop {
        // The mutex is tried once more after the deadline.
        let refusal = match attempt.try_lock() {
            refusal @ (Outcome::Busy | Outcome::Deadlock) => refusal,
            outcome => return outcome,
        };
        // The caller does not wait. This also applies to the holder.
        if matches!(blocking, Blocking::Try) {
            return Outcome::Busy;
        }
        // The holder would wait for itself.
        if refusal == Outcome::Deadlock {
            return Outcome::Deadlock;
        }
        // Another thread has held the mutex until the deadline.
        if has_expired {
            return Outcome::TimedOut;
        }
        match attempt.wait(deadline) {
            // The word has changed, or a thread or a signal has woken this thread.
            Outcome::Busy => {}
            // Either the deadline or only the recheck interval has passed.
            Outcome::TimedOut => has_expired = deadline.is_some_and(Deadline::has_passed),
            // The attempt has ended during the wait.
            outcome => return outcome,
        }
    }
}
