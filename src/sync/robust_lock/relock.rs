//! Unlocking for a wait, and locking again afterwards.

use super::{LockToken, RawLockError, Record, RobustLock};
use crate::os::fork::ForkMarker;
use crate::robust::{Blocking, RobustList, ThreadState};

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

    /// Locks again, and waits for that without a limit. The second value is that of
    /// [`lock_slow`](Self::lock_slow).
    ///
    /// When a wait ends, another processor has usually just written the lock's cache
    /// line. So this does not repeat the reads of `unlock_for_wait`: each read before
    /// the compare-exchange would transfer the cache line once more.
    pub(in crate::sync) fn relock(
        &self,
        unlocked: Unlocked,
    ) -> Result<(LockToken, bool), RawLockError> {
        match self.try_relock(unlocked) {
            Some(token) => Ok((token, false)),
            None => self.lock_slow(Blocking::Wait),
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
