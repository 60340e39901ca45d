//! Unlocking for a wait, and locking again afterwards.

use super::{LockToken, RawLockError, Record, RobustLock};
use crate::os::fork::ForkMarker;
use crate::robust::{Blocking, Queued, RobustList, ThreadState};

/// Proof that this thread has unlocked for a wait, with the data for the next lock.
#[derive(Clone, Copy, Debug)]
pub(in crate::sync) struct Unlocked {
    /// The marker of the process that has unlocked.
    marker: ForkMarker,
    /// The thread's list, if it can lock without libc.
    list: Option<RobustList>,
}

impl<R: Record> RobustLock<R> {
    /// Unlocks until [`relock`](Self::relock). Returns `None` where
    /// [`unlock`](Self::unlock) returns `false`.
    pub(in crate::sync) fn unlock_for_wait(&self, token: LockToken) -> Option<Unlocked> {
        let list = ThreadState::with_cached(|me| me.robust_list_for(&self.pthread));
        let marker = token.marker;
        self.unlock(token).then_some(Unlocked { marker, list })
    }

    /// Calls `wait` while the lock is unlocked: see [`RobustMutex::while_queued`].
    ///
    /// [`RobustMutex::while_queued`]: crate::robust::RobustMutex::while_queued
    pub(in crate::sync) fn while_unlocked<T>(
        &self,
        unlocked: Unlocked,
        wait: impl FnOnce() -> T,
    ) -> T {
        match unlocked.list.filter(|_| unlocked.marker.is_current()) {
            // SAFETY: this thread has held the lock, which stays mapped, as the code
            // that initialised it has promised. `robust_list_for` has returned the
            // list, and no fork came between.
            Some(list) => unsafe { self.pthread.while_queued(list, wait) },
            None => wait(),
        }
    }

    /// Locks again, and waits for that without a limit. `queued` tells whether this
    /// thread has slept in the queue of the mutex. The second value is that of
    /// [`lock_slow`](Self::lock_slow).
    ///
    /// When a wait ends, another processor has usually just written the lock's cache
    /// line. So this does not repeat the reads of `unlock_for_wait`: each read before
    /// the compare-exchange would transfer the cache line once more.
    pub(in crate::sync) fn relock(
        &self,
        unlocked: Unlocked,
        queued: Queued,
    ) -> Result<(LockToken, bool), RawLockError> {
        let token = match queued {
            Queued::No => self.try_relock(unlocked),
            Queued::Perhaps => None,
        };
        match token {
            Some(token) => Ok((token, false)),
            None => self.lock_after(queued, Blocking::Wait),
        }
    }

    #[inline]
    fn try_relock(&self, unlocked: Unlocked) -> Option<LockToken> {
        // If a signal handler has forked, this is the child, and the list is the
        // parent's.
        let list = unlocked.list.filter(|_| unlocked.marker.is_current())?;
        ThreadState::with_cached(|me| {
            // A signal handler may have locked another mutex.
            let room = me.room_without_walk(list)?;
            // SAFETY: this thread has held the lock, so the mutex is initialised. It
            // stays mapped, as the code that initialised it has promised.
            // `robust_list_for` has returned the list, and no fork came between.
            let locked = unsafe { self.pthread.try_lock_fast(list) };
            locked.then(|| self.record_holder(me, room))
        })
    }
}
