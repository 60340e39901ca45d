//! Unlocking for the time of a wait, and locking again.

use super::{LockToken, RawLockError, RawMutex};
use crate::os::process::{self, ForkMarker, ThreadState};
use crate::os::pthread::{Blocking, RobustList};

/// Proof that this thread has unlocked for the time of a wait, and what it needs to
/// lock again.
#[derive(Clone, Copy, Debug)]
pub(in crate::sync) struct Lent {
    /// As in [`LockToken`].
    mark: ForkMarker,
    /// The thread's list, if it can lock without libc.
    list: Option<RobustList>,
}

impl RawMutex {
    /// Unlocks until [`take_back`](Self::take_back). Returns `None` where
    /// [`unlock`](Self::unlock) returns `false`.
    pub(in crate::sync) fn lend(&self, held: LockToken) -> Option<Lent> {
        let list = ThreadState::with_cached(|me| self.pthread.robust_list_for(me.owner()));
        let mark = held.mark;
        self.unlock(held).then_some(Lent { mark, list })
    }

    /// Locks again, and waits for that without a limit. The second value is that of
    /// [`lock_slow`](Self::lock_slow).
    ///
    /// When a wait ends, another processor has usually just written to the lock's cache
    /// line. So this does not read again what `lend` has read: each read before the
    /// exchange would transfer the cache line once more.
    pub(in crate::sync) fn take_back(&self, lent: Lent) -> Result<(LockToken, bool), RawLockError> {
        match self.take_back_if_free(lent) {
            Some(held) => Ok((held, false)),
            None => self.lock_slow(Blocking::Wait),
        }
    }

    #[inline]
    fn take_back_if_free(&self, lent: Lent) -> Option<LockToken> {
        // If a signal handler has forked, this is the child, and the list is the
        // parent's.
        let list = lent.list.filter(|_| process::is_current(lent.mark))?;
        ThreadState::with_cached(|me| {
            // A signal handler may have locked, too.
            if !me.has_room_above(list.first()) {
                return None;
            }
            // SAFETY: this thread has held the lock, so it is placed, initialised, and
            // stays mapped. `lend` had the list from `list_of`, and no fork came
            // between.
            let taken = unsafe { self.pthread.try_lock_fast(list) };
            taken.then(|| self.taken_by(me, list.first()))
        })
    }
}
