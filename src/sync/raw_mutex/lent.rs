//! Unlocking for the time of a wait, and locking again.

use super::{Held, RawMutex, Refusal};
use crate::os::process::{self, Mark, Thread};
use crate::os::pthread::{Patience, RobustList};

/// Proof that this thread has unlocked for the time of a wait, and what it needs to
/// lock again.
#[derive(Clone, Copy, Debug)]
pub(in crate::sync) struct Lent {
    /// As in [`Held`].
    mark: Mark,
    /// The thread's list, if it can lock without libc.
    list: Option<RobustList>,
}

impl RawMutex {
    /// Unlocks until [`take_back`](Self::take_back). Returns `None` where
    /// [`unlock`](Self::unlock) returns `false`.
    pub(in crate::sync) fn lend(&self, held: Held) -> Option<Lent> {
        let list = Thread::with_unchecked(|me| self.pthread.list_of(me.locker()));
        let mark = held.mark;
        self.unlock(held).then_some(Lent { mark, list })
    }

    /// Locks again, and waits for that without a limit. The second value is that of
    /// [`acquire_slowly`](Self::acquire_slowly).
    ///
    /// When a wait ends, another processor has usually just written to the lock's cache
    /// line. So this does not read again what `lend` has read: each read before the
    /// exchange would transfer the cache line once more.
    pub(in crate::sync) fn take_back(&self, lent: Lent) -> Result<(Held, bool), Refusal> {
        match self.take_back_if_free(lent) {
            Some(held) => Ok((held, false)),
            None => self.acquire_slowly(Patience::Forever),
        }
    }

    #[inline]
    fn take_back_if_free(&self, lent: Lent) -> Option<Held> {
        // If a signal handler has forked, this is the child, and the list is the
        // parent's.
        let list = lent.list.filter(|_| process::is_ours(lent.mark))?;
        Thread::with_unchecked(|me| {
            // A signal handler may have locked, too.
            if !me.has_room_above(list.first()) {
                return None;
            }
            // SAFETY: this thread has held the lock, so it is placed, initialised, and
            // stays mapped. `lend` had the list from `list_of`, and no fork came
            // between.
            let taken = unsafe { self.pthread.take_if_free(list) };
            taken.then(|| self.taken_by(me, list.first()))
        })
    }
}
