//! How many robust mutexes a thread holds, those of other code included.
//!
//! When a thread ends, the kernel walks its list from the front and stops after
//! [`MAX_ROBUST_LOCKS`] entries. So the *oldest* locks are lost if there are more, no
//! matter which code has taken them: this crate, another copy of it in the same
//! process, or C code. What counts is the list, and before each lock it must be known to
//! be shorter.
//!
//! # When the list is walked
//!
//! A thread keeps an upper bound for the length of its list, and the entry that was the
//! first when the bound was right (`top`). Everyone puts new entries in front. So if the
//! first entry is still `top`, and `top` has been on the list all the time, nothing was
//! added, and the bound holds. If not, the list is walked, and bound and `top` are known
//! again. That `top` has been there all the time is certain in these cases:
//!
//! * **`top` is the head**: the list was empty, and is.
//! * **`top` is a mutex that this copy of the crate holds.** It stays on the list for as
//!   long as its guard is there.
//!
//! After an unlock of `top`, the entry behind it is the new `top` if *all* entries are
//! ours. If other code has locked some, the entry behind may be one of theirs, which they
//! may unlock, lock others, and lock it again, so that it is the first, with more behind
//! it. Then there is no `top`, and the next lock walks.
//!
//! So nothing is walked by a thread whose robust mutexes are all ours, however deep they
//! nest. A thread in which other code holds some walks at the first lock after each
//! change, for as many steps as there are locks, and [`MAX_ROBUST_LOCKS`] at most: a
//! corrupt list can't hold it up.
//!
//! What is not prevented: other code that locks beyond the limit *after* us; and code that
//! unlocks a mutex while our guard of it is there, and later locks it again in front of
//! others.

use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;

use super::robust::{Entry, Head, RobustList, next_of};
use super::{Locker, MAX_ROBUST_LOCKS, PthreadMutex};

/// Where on its thread's list a mutex is: its own entry and the one behind it, both as
/// they stand there (the entry of a mutex with priority inheritance has its lowest bit
/// set).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) entry: Entry,
    pub(crate) next: Entry,
}

/// The head of the calling thread's list, which the kernel has named.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldList(NonNull<Head>);

impl HeldList {
    /// # Safety
    ///
    /// * `head` is what the kernel says is registered for the calling thread.
    /// * It is used by that thread only, and not in a forked child.
    pub(super) unsafe fn new(head: NonNull<()>) -> Self {
        Self(head.cast())
    }

    /// The first entry: the mutex that was locked last. The head itself if the thread
    /// holds none.
    #[inline]
    fn first(self) -> Entry {
        // SAFETY: `new` was promised that the kernel has it registered; libc keeps it
        // for as long as the thread lives, and this does not leave the thread.
        let head = unsafe { self.0.as_ref() };
        // Relaxed: only this thread writes it.
        head.first.load(Ordering::Relaxed)
    }

    /// How many entries there are, [`MAX_ROBUST_LOCKS`] at most.
    fn len(self) -> u32 {
        let end: Entry = self.0.as_ptr().cast();
        let mut at = self.first();
        for len in 0..MAX_ROBUST_LOCKS {
            if at == end || at.is_null() {
                return len;
            }
            // SAFETY: an entry of the calling thread's list. The thread holds that
            // mutex, so it is mapped: the kernel and libc read it in the same way.
            at = unsafe { next_of(at) }.load(Ordering::Relaxed);
        }
        MAX_ROBUST_LOCKS
    }
}

impl Locker {
    /// The first entry of the thread's list. Null for no thread at all.
    #[inline]
    pub(crate) fn first_held(self) -> Entry {
        self.held().map_or(ptr::null_mut(), HeldList::first)
    }

    /// How many robust mutexes the thread holds, [`MAX_ROBUST_LOCKS`] at most: a walk.
    #[cold]
    pub(crate) fn count_held(self) -> u32 {
        self.held().map_or(0, HeldList::len)
    }
}

impl PthreadMutex {
    /// Gives the mutex back. Calls `prepare` before that, if the caller holds it; if
    /// not, nothing is done. Returns where on the list it was.
    ///
    /// # Safety
    ///
    /// It is initialised. `list` is what [`list_of`](Self::list_of) has said to the
    /// caller.
    #[inline]
    pub(crate) unsafe fn give_back_after(
        &self,
        list: RobustList,
        prepare: impl FnOnce(),
    ) -> Option<Position> {
        // SAFETY: the caller's promise: initialised, of the kind that `list` can hold,
        // and mapped, because `self` borrows it.
        unsafe { list.give_back_after(self.words(), prepare) }
    }

    /// Whether the caller, the thread `me`, holds it at this moment.
    #[inline]
    pub(crate) fn is_held_by(&self, me: Locker) -> bool {
        self.words().is_held_by(me.tid())
    }
}
