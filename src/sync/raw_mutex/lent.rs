//! Giving the lock back for the time of a wait, and taking it again.

use super::{Held, RawMutex, Refusal};
use crate::os::process::{self, Mark, Thread};
use crate::os::pthread::{Patience, RobustList};

/// What its holder knows of a lock that it has given back for the time of a wait.
#[derive(Clone, Copy, Debug)]
pub(in crate::sync) struct Lent {
    /// As in [`Held`].
    mark: Mark,
    /// By which it is taken without libc, if it is.
    list: Option<RobustList>,
}

impl RawMutex {
    /// Gives the lock back, to be taken again by [`take_back`](Self::take_back).
    /// `None`: as [`unlock`](Self::unlock) says `false`.
    pub(in crate::sync) fn lend(&self, held: Held) -> Option<Lent> {
        let list = Thread::with_unchecked(|me| self.pthread.list_of(me.locker()));
        let mark = held.mark;
        self.unlock(held).then_some(Lent { mark, list })
    }

    /// Waits for the lock and takes it again. The second value is that of
    /// [`acquire_slowly`](Self::acquire_slowly).
    ///
    /// Whoever comes back from a wait comes when another one has just written to the
    /// lock. What it knew before it does not read again, because each read before the
    /// exchange has the cache line transferred once more.
    pub(in crate::sync) fn take_back(&self, lent: Lent) -> Result<(Held, bool), Refusal> {
        match self.take_back_if_free(lent) {
            Some(held) => Ok((held, false)),
            None => self.acquire_slowly(Patience::Forever),
        }
    }

    #[inline]
    fn take_back_if_free(&self, lent: Lent) -> Option<Held> {
        // A signal handler may have forked: then the list is another's.
        let list = lent.list.filter(|_| process::is_ours(lent.mark))?;
        Thread::with_unchecked(|me| {
            // It may have taken locks, too.
            if !me.has_room_above(list.first()) {
                return None;
            }
            // SAFETY: the lock was held by this thread, so it is placed, and so it has
            // stayed; the list is still this thread's.
            let taken = unsafe { self.pthread.take_if_free(list) };
            taken.then(|| self.taken_by(me, list.first()))
        })
    }
}
