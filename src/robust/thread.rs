//! The state of a thread that locks: its identity, and how many robust locks it holds.
//!
//! # Identity
//!
//! A robust mutex names its holder by thread id. So for every lock, this crate must
//! know the id of the calling thread, and the pid namespace in which that id has a
//! meaning. Reading them from the kernel each time would cost more than the lock. So
//! each thread caches them. The cache is valid for as long as its [`ForkMarker`] is
//! current.
//!
//! # Room for one more lock
//!
//! When a thread ends, the kernel walks its list from the front and stops after
//! [`MAX_ROBUST_LOCKS`] entries. If the list is longer, the kernel does not recover the
//! *oldest* locks, whichever code has locked them: this crate, another copy of it in
//! the same process, or C code. So before each lock, this crate must know that the list
//! is shorter.
//!
//! A thread keeps an upper bound for the length of its list, and the entry that was the
//! first when the bound was right (`top`). All code puts new entries in front. So if
//! the first entry is still `top`, and `top` has been on the list all the time, no code
//! has added an entry, and the bound is right. Otherwise the thread walks the list, and
//! sets the bound and `top` again. `top` has certainly been on the list all the time in
//! these cases:
//!
//! * **`top` is the head.** The list was empty, and is empty.
//! * **`top` is a mutex that this copy of the crate holds.** It stays on the list for
//!   as long as its guard exists.
//!
//! After an unlock of `top`, the next entry is the new `top` if *all* entries belong to
//! this copy of the crate. If other code has locked some, the next entry may belong to
//! that code. The other code may unlock that mutex, lock others, and lock it again.
//! Then it is the first entry, with more entries behind it. So in this case there is no
//! `top`, and the next lock walks.
//!
//! A thread never walks if all its robust mutexes belong to this copy of the crate,
//! however deep they nest. A thread in which other code holds some walks at the first
//! lock after each change. A walk has as many steps as there are entries, and
//! [`MAX_ROBUST_LOCKS`] at most.
//!
//! Two things are not prevented. Other code may lock beyond the limit *after* this
//! crate. And code that unlocks a mutex whose guard still exists, or was leaked, can
//! make this crate count one entry too few.

use std::cell::Cell;
use std::ptr;

use super::layout::Entry;
use super::list::{Position, RobustList};
use super::mutex::RobustMutex;
use super::owner::LockOwner;
use super::thread_id::ThreadId;
use crate::error::IdentityError;
use crate::os::fork::ForkMarker;
use crate::os::process;
use crate::os::robust_list::MAX_ROBUST_LOCKS;

/// The cached identity of a thread, and the number of its locks.
pub(crate) struct ThreadState {
    /// The marker of the process that the thread belongs to.
    marker: Cell<ForkMarker>,
    id: Cell<ThreadId>,
    owner: Cell<LockOwner>,
    /// How many locks the thread holds by this copy of the crate.
    locks_held: Cell<u32>,
    /// How many locks the thread may hold by this copy of the crate:
    /// [`MAX_ROBUST_LOCKS`] without those that other code holds. It is right for as
    /// long as `top` is the first entry.
    limit: Cell<u32>,
    /// The first entry of the thread's robust list when `limit` was right. Null if
    /// `limit` may be wrong.
    top: Cell<Entry>,
}

thread_local! {
    static THREAD: ThreadState = const {
        ThreadState {
            marker: Cell::new(ForkMarker::unset()),
            id: Cell::new(ThreadId::NONE),
            owner: Cell::new(LockOwner::NONE),
            locks_held: Cell::new(0),
            limit: Cell::new(MAX_ROBUST_LOCKS),
            top: Cell::new(ptr::null_mut()),
        }
    };
}

impl ThreadState {
    /// Calls `f` with the cached state, valid or not.
    /// [`pid_namespace_fast`](Self::pid_namespace_fast) returns 0 if it is invalid.
    #[inline]
    pub(crate) fn with_cached<R>(f: impl FnOnce(&Self) -> R) -> R {
        // `f` is called outside of `with`, so that the compiler inlines it.
        let thread = THREAD.with(ptr::from_ref);
        // SAFETY: the variable has no destructor, so it is valid until its thread has
        // ended. This thread calls `f`, which can't keep the reference.
        f(unsafe { &*thread })
    }

    /// Calls `f` with the valid state of this thread, or with the reason why there is
    /// none. Refreshes the state after a fork.
    pub(crate) fn with<R>(f: impl FnOnce(Result<&Self, IdentityError>) -> R) -> R {
        THREAD.with(|thread| {
            if thread.marker.get().is_current() {
                return f(Ok(thread));
            }
            f(thread.refresh().map(|()| thread))
        })
    }

    /// Returns the marker of the process that this thread belongs to.
    #[inline]
    pub(crate) fn marker(&self) -> ForkMarker {
        self.marker.get()
    }

    /// Returns the pid namespace of this process, an inode number. The caller has got
    /// the state from [`with`](Self::with).
    #[inline]
    pub(crate) fn pid_namespace(&self) -> u32 {
        self.marker.get().pid_namespace()
    }

    /// Returns the pid namespace of this process, or 0 if the cached identity is
    /// invalid, or if only a system call can tell: see [`ForkMarker`].
    #[inline]
    pub(crate) fn pid_namespace_fast(&self) -> u32 {
        self.marker.get().pid_namespace_fast()
    }

    #[inline]
    pub(crate) fn id(&self) -> ThreadId {
        self.id.get()
    }

    /// Returns this thread as an owner of robust mutexes.
    #[inline]
    pub(crate) fn owner(&self) -> LockOwner {
        self.owner.get()
    }

    /// Returns this thread's list, if this crate locks and unlocks `mutex` by its
    /// words.
    #[inline]
    pub(crate) fn robust_list_for(&self, mutex: &RobustMutex) -> Option<RobustList> {
        self.owner.get().robust_list_for(mutex.words())
    }

    /// Returns the first entry of the thread's list.
    #[inline]
    pub(crate) fn first_held(&self) -> Entry {
        self.owner.get().first_held()
    }

    /// Returns whether the kernel would certainly recover one more lock. `first` is the
    /// first entry of the thread's list. Does not walk the list, so it may return
    /// `false` although there is room.
    #[inline]
    pub(crate) fn has_room_above(&self, first: Entry) -> bool {
        self.top.get() == first && self.locks_held.get() < self.limit.get()
    }

    /// Returns whether the kernel would recover one more lock. Walks the list if
    /// necessary.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room_above(self.first_held()) || self.recount_room()
    }

    /// Counts all robust mutexes that the thread holds, those of other code included.
    /// Returns whether there is room for one more.
    #[cold]
    fn recount_room(&self) -> bool {
        let room = MAX_ROBUST_LOCKS - self.owner.get().count_held();
        self.limit.set(self.locks_held.get() + room);
        self.top.set(self.first_held());
        room > 0
    }

    /// Records that the thread has locked one more mutex, for which there was room.
    /// `first` is its entry, now the first of the thread's list.
    #[inline]
    pub(crate) fn push_lock(&self, first: Entry) {
        self.locks_held.set(self.locks_held.get().wrapping_add(1));
        self.top.set(first);
    }

    /// Records that the thread has unlocked a mutex, whose position on the list was
    /// `was`.
    #[inline]
    pub(crate) fn pop_lock(&self, was: Position) {
        self.dec_locks_held();
        if self.top.get() == was.entry {
            let all_are_ours = self.limit.get() == MAX_ROBUST_LOCKS;
            self.top.set(if all_are_ours {
                was.next
            } else {
                ptr::null_mut()
            });
        }
    }

    /// Records that the thread has one guard less, whose mutex libc or other code has
    /// unlocked. The next lock walks the list.
    #[cold]
    pub(crate) fn forget_lock(&self) {
        self.dec_locks_held();
        self.top.set(ptr::null_mut());
    }

    #[inline]
    fn dec_locks_held(&self) {
        self.locks_held.set(self.locks_held.get().wrapping_sub(1));
    }

    /// Reads the identity of this thread from the kernel and libc.
    #[cold]
    fn refresh(&self) -> Result<(), IdentityError> {
        let id = ThreadId::new(std::process::id(), process::gettid());
        let owner = LockOwner::of_this_thread(id.tid(), self.owner.get())?;
        let marker = ForkMarker::of_this_process()?;
        self.id.set(id);
        self.owner.set(owner);
        // A new thread, and the only thread of a forked child, hold no locks of this
        // copy of the crate. The first lock counts the locks of other code.
        self.locks_held.set(0);
        self.limit.set(MAX_ROBUST_LOCKS);
        self.top.set(ptr::null_mut());
        self.marker.set(marker);
        Ok(())
    }
}

/// Returns the marker of this process, which is not current in a forked child.
///
/// # Errors
///
/// This thread can't own robust mutexes.
pub(crate) fn current_marker() -> Result<ForkMarker, IdentityError> {
    ThreadState::with(|me| me.map(ThreadState::marker))
}

/// Returns the pid namespace of this process.
///
/// # Errors
///
/// This thread can't own robust mutexes.
pub(crate) fn pid_namespace() -> Result<u32, IdentityError> {
    ThreadState::with(|me| me.map(ThreadState::pid_namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let (id, namespace) =
            ThreadState::with(|me| me.map(|me| (me.id(), me.pid_namespace()))).unwrap();
        assert_eq!(id.pid(), std::process::id());
        assert_eq!(id.tid(), process::gettid());
        assert_ne!(namespace, 0);
    }

    #[test]
    fn threads_share_the_namespace_but_not_the_id() {
        let ask = || ThreadState::with(|me| me.map(|me| (me.pid_namespace(), me.id()))).unwrap();
        let here = ask();
        let there = std::thread::spawn(ask).join().unwrap();
        assert_eq!(here.0, there.0);
        assert_eq!(here.1.pid(), there.1.pid());
        assert_ne!(here.1.tid(), there.1.tid());
    }
}
