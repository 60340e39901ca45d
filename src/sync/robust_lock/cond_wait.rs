//! Waiting on a `pthread_cond_t`: libc unlocks the mutex, and locks it again.

use std::sync::atomic::Ordering;

use super::{LockToken, RawLockError, Record, RobustLock};
use crate::error::LockError;
use crate::os::clock::Deadline;
use crate::os::pthread::{Outcome, PthreadCond};
use crate::robust::{Room, ThreadState};

impl<R: Record> RobustLock<R> {
    /// Waits on a `pthread_cond_t`: libc unlocks, and locks again after the wait. The
    /// second value tells whether the deadline has passed.
    ///
    /// glibc locks by its own code, which is not safe for a mutex with priority
    /// inheritance. This unlocks such a mutex and refuses the wait.
    ///
    /// # Safety
    ///
    /// * `cond` is initialised.
    /// * No thread waits on `cond` with another mutex at the same time, or libc permits
    ///   such waits: see [`PthreadCond::wait`].
    pub(in crate::sync) unsafe fn wait_on(
        &self,
        cond: &PthreadCond,
        token: LockToken,
        deadline: Option<Deadline>,
    ) -> Result<(LockToken, bool), RawLockError> {
        if !self.is_held(token) {
            if token.marker.is_current() {
                ThreadState::with_cached(ThreadState::forget_lock);
            }
            return Err(LockError::NotOwner);
        }
        if self.pthread.has_priority_inheritance() {
            self.unlock(token);
            return Err(LockError::PriorityInheritance);
        }
        self.holder.store(0, Ordering::Relaxed);
        ThreadState::with_cached(|me| {
            me.begin_unlock();
            me.make_deferred_wakes();
        });
        // SAFETY: `cond` is initialised, and the other waits are permitted, as the
        // caller promises. `is_held` has shown that this thread holds the mutex, so the
        // mutex is initialised, too.
        let outcome = unsafe { cond.wait(self.pthread.as_pthread(), deadline) };
        let (outcome, timed_out) = match outcome {
            Outcome::TimedOut => (Outcome::Acquired, true),
            other => (other, false),
        };
        let (token, _) = ThreadState::with(|me| {
            let me = me?;
            // libc has inserted the mutex at the front of the list, perhaps before
            // entries of a signal handler. So the next nested lock walks the list.
            me.forget_lock();
            self.finish_lock(me, Room::NOT_COUNTED, outcome, || true)
        })?;
        Ok((token, timed_out))
    }
}
