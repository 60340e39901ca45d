//! The number of robust mutexes that a thread holds, those of other code included.
//!
//! When a thread ends, the kernel walks its list from the front and stops after
//! [`MAX_ROBUST_LOCKS`] entries. If the list is longer, the kernel does not recover the
//! *oldest* locks, whichever code has taken them: this crate, another copy of it in the
//! same process, or C code. So before each lock, this crate must know that the list is
//! shorter.
//!
//! # When the list is walked
//!
//! A thread keeps an upper bound for the length of its list, and the entry that was the
//! first when the bound was right (`top`). All code puts new entries in front. So if
//! the first entry is still `top`, and `top` has been on the list all the time, no code
//! has added an entry, and the bound holds. If not, the thread walks the list, and
//! knows bound and `top` again. `top` has certainly been there all the time in these
//! cases:
//!
//! * **`top` is the head**: the list was empty, and is empty.
//! * **`top` is a mutex that this copy of the crate holds.** It stays on the list for
//!   as long as its guard is there.
//!
//! After an unlock of `top`, the entry behind it is the new `top` if *all* entries are
//! ours. If other code has locked some, the entry behind may be one of theirs. The
//! other code may unlock that mutex, lock others, and lock it again. Then it is the
//! first, with more entries behind it. So in this case there is no `top`, and the next
//! lock walks.
//!
//! A thread whose robust mutexes are all ours never walks, however deep they nest. A
//! thread in which other code holds some walks at the first lock after each change. A
//! walk has as many steps as there are entries, and [`MAX_ROBUST_LOCKS`] at most, so it
//! ends even if the list is corrupt.
//!
//! Two things are not prevented. Other code may lock beyond the limit *after* us. And
//! code that unlocks a mutex while our guard of it is there (a leaked guard included)
//! can make us count one entry too few.

use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering;

use super::robust::{Entry, RobustList, RobustListHead, next_of};
use super::{LockOwner, MAX_ROBUST_LOCKS, PthreadMutex};

/// The place of a mutex on its thread's list: its own entry and the next one. Both are
/// as they are on the list: with priority inheritance, the lowest bit of an entry is
/// set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(crate) entry: Entry,
    pub(crate) next: Entry,
}

/// The head of the calling thread's list, as `get_robust_list` has returned it.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldList(NonNull<RobustListHead>);

impl HeldList {
    /// # Safety
    ///
    /// * `head` is what `get_robust_list` has returned to the calling thread.
    /// * Only that thread uses the value, and no forked child does.
    pub(super) unsafe fn new(head: NonNull<()>) -> Self {
        Self(head.cast())
    }

    /// Returns the first entry: the mutex that the thread has locked last. If the
    /// thread holds none, it is the head itself.
    #[inline]
    fn first(self) -> Entry {
        // SAFETY: by the promises to `new`, the kernel has it registered for this
        // thread, and no other thread uses it. libc keeps it until the thread ends.
        let head = unsafe { self.0.as_ref() };
        // Relaxed: only this thread writes it.
        head.first.load(Ordering::Relaxed)
    }

    /// Counts the entries, up to [`MAX_ROBUST_LOCKS`].
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

impl LockOwner {
    /// Returns the first entry of the thread's list, or null for
    /// [`NOBODY`](Self::NOBODY).
    #[inline]
    pub(crate) fn first_held(self) -> Entry {
        self.held().map_or(ptr::null_mut(), HeldList::first)
    }

    /// Walks the list: counts the robust mutexes that the thread holds, up to
    /// [`MAX_ROBUST_LOCKS`].
    #[cold]
    pub(crate) fn count_held(self) -> u32 {
        self.held().map_or(0, HeldList::len)
    }
}

impl PthreadMutex {
    /// Calls `prepare`, then unlocks the mutex. Returns where on the list it was. Does
    /// nothing, and returns `None`, if the caller does not hold it.
    ///
    /// # Safety
    ///
    /// * The mutex is initialised.
    /// * `list` is what [`list_of`](Self::list_of) has returned to the caller.
    #[inline]
    pub(crate) unsafe fn unlock_after(
        &self,
        list: RobustList,
        prepare: impl FnOnce(),
    ) -> Option<Position> {
        // SAFETY: initialised, as the caller promises. `list_of` has returned the list,
        // so the mutex is of the kind that it can hold. `self` borrows it, so it is
        // mapped.
        unsafe { list.unlock_after(self.glibc(), prepare) }
    }

    /// Returns whether the caller, the thread `me`, holds the mutex now.
    #[inline]
    pub(crate) fn is_held_by(&self, me: LockOwner) -> bool {
        self.glibc().is_held_by(me.tid())
    }
}
