//! The robust list of a thread: the mutexes that it holds.
//!
//! A list is circular and doubly linked, and new entries are in front. Only its thread
//! writes it. The kernel reads it when the thread ends. The steps in the comments are
//! those of the tables in [`robust`](super).

use std::ptr::{self, NonNull};
use std::sync::atomic::{Ordering, compiler_fence};

use super::layout::{Entry, MutexWords, next_of, prev_of};
use crate::os::robust_list::{MAX_ROBUST_LOCKS, RobustListHead};

/// The robust list of the calling thread, in libc's known layout.
///
/// It is not `Send`. It is invalid after the thread has ended, and in a forked child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RobustList {
    head: NonNull<RobustListHead>,
    tid: u32,
}

/// The position of a mutex on its thread's list: its entry and the next one. Both may
/// have the flag of priority inheritance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Position {
    pub(super) entry: Entry,
    pub(super) next: Entry,
}

impl RobustList {
    /// Returns the list of the calling thread, `tid`, if libc's layout is the known
    /// one. `held` is a mutex that libc has just locked in this thread.
    ///
    /// # Safety
    ///
    /// * `head` is registered for the calling thread.
    pub(super) unsafe fn verify(
        head: NonNull<RobustListHead>,
        held: &MutexWords,
        tid: u32,
    ) -> Option<Self> {
        // SAFETY: `head` is registered, as the caller promises. So it is mapped and has
        // the kernel's form.
        let is_known = held.matches_known_layout(unsafe { head.as_ref() }, tid);
        is_known.then_some(Self { head, tid })
    }

    #[inline]
    pub(super) fn head(&self) -> &RobustListHead {
        // SAFETY: libc keeps the head until the thread ends, and the list does not
        // leave the thread.
        unsafe { self.head.as_ref() }
    }

    /// Returns the thread whose list this is.
    #[inline]
    pub(super) fn tid(self) -> u32 {
        self.tid
    }

    /// Returns the first entry: the mutex that the thread has locked last, or the head.
    #[inline]
    pub(crate) fn first(self) -> Entry {
        self.head().list.load(Ordering::Relaxed)
    }

    /// Returns whether an entry is the head, so that no entry comes after it.
    #[inline]
    pub(crate) fn is_head(self, entry: Entry) -> bool {
        entry == self.head.as_ptr().cast()
    }

    /// Sets `list_op_pending`, so that the kernel finds the mutex if this thread dies
    /// while the lock word and the list disagree (step 1).
    #[inline]
    pub(super) fn set_pending(&self, entry: Entry) {
        self.head().list_op_pending.store(entry, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    }

    /// Clears `list_op_pending` (the last step).
    #[inline]
    pub(super) fn clear_pending(&self) {
        compiler_fence(Ordering::SeqCst);
        self.head()
            .list_op_pending
            .store(ptr::null_mut(), Ordering::Relaxed);
    }

    /// Inserts a mutex at the front of the list (step 3 of locking).
    ///
    /// # Safety
    ///
    /// * The thread has just locked the word of the mutex, which is not on the list.
    /// * The mutex stays mapped for as long as the thread holds it.
    /// * `entry` is its [`entry`](MutexWords::entry), or with priority inheritance its
    ///   [`pi_entry`](MutexWords::pi_entry).
    #[inline]
    pub(super) unsafe fn push_front(self, mutex: &MutexWords, entry: Entry) {
        let head = self.head();
        mutex.set_count();
        let first = head.list.load(Ordering::Relaxed);
        mutex.list.next.store(first, Ordering::Relaxed);
        mutex.set_prev(self.head.as_ptr().cast());
        // SAFETY: `first` is on this thread's list, or is its head.
        unsafe { self.set_prev(first, mutex.entry()) };
        compiler_fence(Ordering::SeqCst);
        head.list.store(entry, Ordering::Relaxed);
    }

    /// Removes a mutex from the list (step 2 of unlocking). Returns the next entry.
    ///
    /// # Safety
    ///
    /// * The mutex is on this thread's list.
    #[inline]
    pub(super) unsafe fn remove(self, mutex: &MutexWords) -> Entry {
        let next = mutex.list.next.load(Ordering::Relaxed);
        let prev = mutex.list.prev.load(Ordering::Relaxed);
        // SAFETY: the mutex is on this thread's list, as the caller promises. So `next`
        // is on that list, or is its head.
        unsafe { self.set_prev(next, prev) };
        // SAFETY: the mutex is on this thread's list, as the caller promises. So `prev`
        // is on that list, or is its head.
        unsafe { next_of(prev) }.store(next, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        mutex.clear_list_node();
        next
    }

    /// Records that `prev` is the entry before `entry`. Does nothing if `entry` is the
    /// head of the list: glibc writes the entry before the head, but never reads it,
    /// and musl has no word for it.
    ///
    /// # Safety
    ///
    /// * `entry` is on this thread's list, or is its head.
    #[inline]
    unsafe fn set_prev(self, entry: Entry, prev: Entry) {
        if self.is_head(entry) {
            return;
        }
        // SAFETY: `entry` is on the list or is its head, as the caller promises. It is
        // not the head.
        unsafe { prev_of(entry) }.store(prev, Ordering::Relaxed);
    }
}

/// The robust list of the calling thread, as the kernel reads it. libc's layout may be
/// unknown.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldLocks(NonNull<RobustListHead>);

impl HeldLocks {
    /// Wraps a list head.
    ///
    /// # Safety
    ///
    /// * `head` is the list head of the calling thread, and libc keeps it mapped until
    ///   the thread ends.
    /// * Only that thread uses the value. A forked child may use it only to
    ///   [forget](Self::forget_those_of_the_parent) the mutexes of its parent.
    pub(super) unsafe fn new(head: NonNull<RobustListHead>) -> Self {
        Self(head)
    }

    /// Empties the list of a forked child, whose mutexes are those that the parent's
    /// thread held at the fork.
    ///
    /// # Safety
    ///
    /// * This is the list of the calling thread, which has locked nothing since the
    ///   fork.
    #[cfg(target_env = "musl")]
    pub(super) unsafe fn forget_those_of_the_parent(self) {
        // SAFETY: libc keeps the head until the thread ends, also in a forked child.
        let head = unsafe { self.0.as_ref() };
        head.list.store(self.0.as_ptr().cast(), Ordering::Relaxed);
        head.list_op_pending
            .store(ptr::null_mut(), Ordering::Relaxed);
    }

    /// Returns the first entry: the mutex that the thread has locked last, or the head.
    #[inline]
    pub(super) fn first(self) -> Entry {
        // SAFETY: the head is registered for this thread, and no other thread uses this
        // value, as the caller of `new` has promised. libc keeps the head until the
        // thread ends.
        let head = unsafe { self.0.as_ref() };
        // Relaxed: only this thread writes it.
        head.list.load(Ordering::Relaxed)
    }

    /// Counts the entries, up to [`MAX_ROBUST_LOCKS`]. So it returns even if the list
    /// is corrupt.
    pub(super) fn count(self) -> u32 {
        let end: Entry = self.0.as_ptr().cast();
        let mut entry = self.first();
        for count in 0..MAX_ROBUST_LOCKS {
            if entry == end || entry.is_null() {
                return count;
            }
            // SAFETY: `entry` is on the calling thread's list. The thread holds that
            // mutex, so it is mapped. The kernel and libc read it in the same way.
            entry = unsafe { next_of(entry) }.load(Ordering::Relaxed);
        }
        MAX_ROBUST_LOCKS
    }
}
