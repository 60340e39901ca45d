//! Waiting on a `pthread_cond_t`: libc unlocks the mutex, and locks it again.

use std::sync::atomic::Ordering;

use super::{LockToken, RawLockError, RawMutex};
use crate::error::LockError;
use crate::os::clock::Deadline;
use crate::os::process::{self, ThreadState};
use crate::os::pthread::{Outcome, PthreadCond};

impl RawMutex {
    /// Waits on a `pthread_cond_t`: libc unlocks, and locks again after the wait. The
    /// second value tells whether the deadline passed.
    ///
    /// glibc locks by its own code, which is not safe for a mutex with priority
    /// inheritance. This unlocks such a mutex and refuses the wait.
    ///
    /// # Safety
    ///
    /// * `cond` is placed.
    /// * No thread waits on `cond` with another mutex at the same time, or libc permits
    ///   such waits: see [`PthreadCond::wait`].
    pub(in crate::sync) unsafe fn wait_on(
        &self,
        cond: &PthreadCond,
        held: LockToken,
        deadline: Option<Deadline>,
    ) -> Result<(LockToken, bool), RawLockError> {
        if !self.is_held(held) {
            if process::is_current(held.mark) {
                ThreadState::with_cached(ThreadState::forget_lock);
            }
            return Err(LockError::NotOwner);
        }
        if self.pthread.has_priority_inheritance() {
            self.unlock(held);
            return Err(LockError::PriorityInheritance);
        }
        self.holder.store(0, Ordering::Relaxed);
        // SAFETY: `cond` is initialised, and other waiters do no harm, as the caller
        // promises. `is_held` has shown that this thread holds the mutex, so the mutex
        // is initialised, too.
        let outcome = unsafe { cond.wait(&self.pthread, deadline) };
        let (outcome, timed_out) = match outcome {
            Outcome::TimedOut => (Outcome::Acquired, true),
            other => (other, false),
        };
        let (held, _) = ThreadState::with(|me| {
            let me = me?;
            // libc has put it at the front of the list again. A signal handler may have
            // put other entries there before.
            let settled = self.settle(me, outcome, true);
            match settled {
                Ok(_) => me.lock_moved(),
                Err(_) => me.forget_lock(),
            }
            settled
        })?;
        Ok((held, timed_out))
    }
}
