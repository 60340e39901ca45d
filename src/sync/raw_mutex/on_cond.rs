//! Waiting on a `pthread_cond_t`, which unlocks and locks by libc.

use std::sync::atomic::Ordering;

use super::{Held, RawMutex, Refusal};
use crate::error::LockError;
use crate::os::clock::Deadline;
use crate::os::process::{self, Thread};
use crate::os::pthread::{Outcome, PthreadCond};

impl RawMutex {
    /// Waits on a `pthread_cond_t`, which gives the lock back and takes it
    /// again. The second value tells whether the deadline passed.
    ///
    /// glibc takes the lock again by its own code, which is not safe for a mutex with
    /// priority inheritance. Such a mutex is released, and the wait refused.
    ///
    /// # Safety
    ///
    /// * `cond` is placed.
    /// * No thread waits on `cond` with another mutex at the same time, or libc
    ///   permits that: see [`PthreadCond::wait`].
    pub(in crate::sync) unsafe fn wait_on(
        &self,
        cond: &PthreadCond,
        held: Held,
        deadline: Option<Deadline>,
    ) -> Result<(Held, bool), Refusal> {
        if !self.is_held(held) {
            if process::is_ours(held.mark) {
                Thread::with_unchecked(Thread::lock_gone);
            }
            return Err(LockError::NotOwner);
        }
        if self.pthread.inherits() {
            self.unlock(held);
            return Err(LockError::PriorityInheritance);
        }
        self.holder.store(0, Ordering::Relaxed);
        // SAFETY: the caller promises that `cond` is placed; `held` proves that
        // the mutex is placed and held by this thread.
        let outcome = unsafe { cond.wait(&self.pthread, deadline) };
        let (outcome, timed_out) = match outcome {
            Outcome::TimedOut => (Outcome::Acquired, true),
            other => (other, false),
        };
        let (held, _) = Thread::with(|me| {
            let me = me?;
            // libc has moved it to the front of the list, and other code may have put
            // something there before.
            let settled = self.settle(me, outcome, true);
            match settled {
                Ok(_) => me.lock_moved(),
                Err(_) => me.lock_gone(),
            }
            settled
        })?;
        Ok((held, timed_out))
    }
}
