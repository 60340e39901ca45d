//! Unlocking for a wait, and locking again afterwards.

use super::{LockToken, RawLockError, Record, RobustLock};
use crate::os::fork::ForkMarker;
use crate::robust::{Blocking, Queued, RobustList, RobustMutex, ThreadState};

/// Proof that this thread has unlocked for a wait, with the data for the next lock.
#[derive(Clone, Copy, Debug)]
pub(in crate::sync) struct Unlocked {
    /// The marker of the process that has unlocked.
    marker: ForkMarker,
    /// The thread's list, if it can lock without libc.
    list: Option<RobustList>,
}

impl Unlocked {
    /// Returns the thread's list, if the thread can lock without libc. Returns `None`
    /// after a fork in a signal handler: in the child, the list is the parent's.
    #[inline]
    fn current_list(self) -> Option<RobustList> {
        self.list.filter(|_| self.marker.is_current())
    }

    /// Returns whether the thread can wait in the queue of the mutex: it locks without
    /// libc, and so with a mark for the waiters behind it.
    pub(in crate::sync) fn can_be_queued(self) -> bool {
        self.list.is_some()
    }
}

impl<R: Record> RobustLock<R> {
    /// Unlocks until [`relock`](Self::relock). Returns `None` where
    /// [`unlock`](Self::unlock) returns `false`.
    pub(in crate::sync) fn unlock_for_wait(&self, token: LockToken) -> Option<Unlocked> {
        let list = ThreadState::with_cached(|me| me.robust_list_for(&self.pthread));
        let marker = token.marker;
        self.unlock(token).then_some(Unlocked { marker, list })
    }

    /// Calls `wait`, and then locks again without a limit of time. `wait` returns
    /// whether other threads may have moved this thread to the queue of the mutex. The
    /// last value is that of [`lock_slow`](Self::lock_slow).
    ///
    /// From the beginning of `wait` until it has locked, `list_op_pending` of this
    /// thread names the mutex. If the thread dies after a wake, the kernel wakes the
    /// next waiter of the mutex.
    ///
    /// When a wait ends, another processor has usually just written the lock's cache
    /// line. So this does not repeat the reads of `unlock_for_wait`: each read before
    /// the compare-exchange would transfer the cache line once more.
    pub(in crate::sync) fn wait_and_relock<T>(
        &self,
        unlocked: Unlocked,
        wait: impl FnOnce() -> Result<(T, Queued), RawLockError>,
    ) -> Result<(T, LockToken, bool), RawLockError> {
        if let Some(list) = unlocked.current_list() {
            // SAFETY: `list` is that of this thread. Its method for the mutex is the
            // list: `robust_list_for` has returned it. The mutex stays mapped while
            // `self` is borrowed. Each way out of this function clears the field: a
            // lock does, and an error below.
            unsafe { self.pthread.begin_wait(list) };
        }
        let result = wait().and_then(|(value, queued)| {
            let (token, owner_died) = self.relock(unlocked, queued)?;
            Ok((value, token, owner_died))
        });
        if let (Err(_), Some(list)) = (&result, unlocked.current_list()) {
            RobustMutex::end_wait(list);
        }
        result
    }

    fn relock(
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
        let list = unlocked.current_list()?;
        ThreadState::with_cached(|me| {
            // A signal handler may have locked another mutex.
            let room = me.room_without_walk(list)?;
            // SAFETY: this thread has held the lock, so the mutex is initialised. It
            // stays mapped, as the code that initialised it has promised.
            // `robust_list_for` has returned the list, and no fork came between.
            unsafe { self.acquire_fast(me, list, room) }
        })
    }
}
