//! The words of libc's `pthread_mutex_t`, and their meaning.
//!
//! glibc and musl have different layouts. Each has a module, with the same items. The
//! libc for which the crate is compiled selects one of them.
//!
//! | fact | `glibc` | `musl` |
//! |---|---|---|
//! | words, in order | lock, count, owner, users, kind, list | kind, lock, waiters, count, list |
//! | distance from a list entry to the lock word | −32 | −28 |
//! | priority inheritance in a list entry | bit 0 is set | not shown |
//! | the word before the head of a list | the last entry | another variable of musl |
//! | libc registers the list | when the thread begins, and in a forked child | at the first lock |
//! | the holder has locked after an owner death | `owner` names no thread | the lock word keeps `FUTEX_OWNER_DIED` |
//! | the mutex is unrecoverable | a value of `owner` | a value of the lock word |
//! | the thread that died as the holder | `owner` names it | not stored |
//!
//! Both layouts are those of 64-bit machines. They are part of the ABI of glibc (since
//! 2.5) and of musl, because C programs have the size compiled in.
//! [`LockOwner::of_this_thread`] verifies the layout nevertheless: libc locks a mutex,
//! and [`matches_known_layout`](MutexWords::matches_known_layout) checks every word.
//!
//! [`LockOwner::of_this_thread`]: super::owner::LockOwner::of_this_thread

mod entry;

#[cfg(target_env = "gnu")]
mod glibc;
#[cfg(target_env = "gnu")]
use glibc as libc_layout;

#[cfg(target_env = "musl")]
mod musl;
#[cfg(target_env = "musl")]
use musl as libc_layout;

use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::os::futex::FUTEX_TID_MASK;
use crate::os::pthread::PthreadMutex;
use crate::os::robust_list::RobustListHead;

use entry::ListNode;
pub(crate) use entry::{Entry, LastOwner};
use libc_layout::{ENTRY_OFFSET, FUTEX_OFFSET, HEAD_HAS_PREV, KIND_IGNORED, KIND_PRIO_INHERIT};
pub(super) use libc_layout::{
    KEPT_UNTIL_CONSISTENT, KIND_PSHARED_ROBUST_ERRORCHECK, KIND_PSHARED_ROBUST_PI, MutexWords,
    PI_FLAG, REGISTERS_AT_FIRST_LOCK, is_unrecoverable_word,
};

/// The lock word of a mutex without holder, waiters and owner death.
pub(super) const UNLOCKED: u32 = 0;

const _: () = {
    assert!(size_of::<MutexWords>() <= size_of::<PthreadMutex>());
    assert!(align_of::<MutexWords>() <= align_of::<PthreadMutex>());
};

/// The offset of the lock word in a mutex.
#[cfg(test)]
pub(crate) const LOCK_WORD_OFFSET: usize = offset_of!(MutexWords, lock);

/// Returns the list entry of a mutex without priority inheritance. The mutex may be
/// unmapped.
#[inline]
pub(super) fn entry_at(mutex: *const MutexWords) -> Entry {
    mutex.cast_mut().wrapping_byte_add(ENTRY_OFFSET).cast()
}

impl MutexWords {
    /// Returns the words of a mutex, initialised or not.
    #[inline]
    pub(super) fn of(mutex: &PthreadMutex) -> &Self {
        // SAFETY: a `PthreadMutex` is at least as large and aligned as these words, by
        // the assertions above. Any bytes are valid as atomic words. Its bytes are
        // initialised, and threads may change them, because all fields are atomics.
        unsafe { &*ptr::from_ref(mutex).cast::<Self>() }
    }

    /// Records the entry before this mutex, which is the first of its list. The word is
    /// usually right: it is that of the last lock, if the same thread locks again.
    #[inline]
    pub(super) fn set_prev(&self, prev: Entry) {
        if self.list.prev.load(Ordering::Relaxed) != prev {
            self.list.prev.store(prev, Ordering::Relaxed);
        }
    }

    /// Returns the list entry of a mutex without priority inheritance. The pointer may
    /// be used to access the whole mutex.
    #[inline]
    pub(super) fn entry(&self) -> Entry {
        entry_at(self)
    }

    /// Returns the list entry of a mutex with priority inheritance.
    pub(super) fn pi_entry(&self) -> Entry {
        self.entry().map_addr(|address| address | PI_FLAG)
    }

    /// Returns the kind: type, robustness, protocol and process-shared flag.
    #[inline]
    pub(super) fn kind(&self) -> u32 {
        // Relaxed, here and below: the lock orders these words. For a caller without
        // the lock, a value is a snapshot.
        self.kind.load(Ordering::Relaxed)
    }

    /// Returns whether the mutex is process-shared, robust and normal, and has priority
    /// inheritance.
    #[inline]
    pub(super) fn is_robust_pi(&self) -> bool {
        self.kind() & !KIND_IGNORED == KIND_PSHARED_ROBUST_PI
    }

    /// Returns whether the mutex has priority inheritance. Its other properties may be
    /// any.
    pub(super) fn has_priority_inheritance(&self) -> bool {
        self.kind() & KIND_PRIO_INHERIT != 0
    }

    /// Returns the thread id in the lock word, or 0.
    #[inline]
    pub(super) fn holder(&self) -> u32 {
        holder_in(self.lock.load(Ordering::Relaxed))
    }

    /// Returns whether the calling thread, `tid`, holds the mutex, which is then on its
    /// list.
    ///
    /// The lock word alone does not prove that. glibc's `pthread_mutex_trylock` writes
    /// the caller's id into the word of an unrecoverable mutex, and does not put the
    /// mutex on the list.
    #[inline]
    pub(super) fn is_held_by(&self, tid: u32) -> bool {
        self.holder() == tid && !self.is_unrecoverable()
    }

    /// Returns whether libc's layout is the known one. libc has just locked this mutex
    /// in the calling thread, `tid`, whose list has the head `head`.
    pub(super) fn matches_known_layout(&self, head: &RobustListHead, tid: u32) -> bool {
        let pointer = |word: &AtomicPtr<()>| word.load(Ordering::Relaxed);
        let next = pointer(&self.list.next);
        let is_head = next.addr() == ptr::from_ref(head).addr();
        // libc has registered the distance from an entry to the lock word.
        head.futex_offset == FUTEX_OFFSET
            // The lock word is the thread id, without `FUTEX_WAITERS`.
            && self.lock.load(Ordering::Relaxed) == tid
            // The kind has the bits that the attributes have asked for, and no others.
            && self.kind() == KIND_PSHARED_ROBUST_ERRORCHECK
            && self.matches_known_words(tid)
            // libc puts new entries in front, so the previous one is the head,
            && pointer(&self.list.prev).addr() == ptr::from_ref(head).addr()
            // and the head's first entry is this mutex, without a flag in bit 0.
            && pointer(&head.list) == self.entry()
            // libc has cleared `list_op_pending` at the end of the lock.
            && pointer(&head.list_op_pending).is_null()
            // The list is circular.
            && !next.is_null()
            // This mutex is the previous one of the next entry.
            && (is_head && !HEAD_HAS_PREV
                // SAFETY: `next` is on the calling thread's list: libc has just
                // inserted this mutex before it. If it is the head, the head has such a
                // word.
                || pointer(unsafe { prev_of(next) }) == self.entry())
    }
}

/// Returns the thread id in a lock word, or 0.
#[inline]
pub(super) fn holder_in(word: u32) -> u32 {
    if is_unrecoverable_word(word) {
        return 0;
    }
    word & FUTEX_TID_MASK
}

/// Returns [`ListNode::prev`] of the node to which `entry` points. For the head it is
/// the word before [`RobustListHead::list`].
///
/// # Safety
///
/// * `entry` is on the calling thread's list, or is its head.
/// * It is not the head, or [`HEAD_HAS_PREV`] is true.
#[inline]
pub(super) unsafe fn prev_of<'a>(entry: Entry) -> &'a AtomicPtr<()> {
    const BACK: usize = offset_of!(ListNode, next) - offset_of!(ListNode, prev);
    let at = entry
        .map_addr(|address| address & !PI_FLAG)
        .wrapping_byte_sub(BACK);
    // SAFETY: `entry` is on the list, as the caller promises. So a node lies there, or
    // the word before the head, which is libc's for the last entry.
    unsafe { AtomicPtr::from_ptr(at.cast()) }
}

/// Returns [`ListNode::next`] of the node to which `entry` points. For the head it is
/// [`RobustListHead::list`].
///
/// # Safety
///
/// * `entry` is on the calling thread's list, or is its head.
#[inline]
pub(super) unsafe fn next_of<'a>(entry: Entry) -> &'a AtomicPtr<()> {
    let at = entry.map_addr(|address| address & !PI_FLAG);
    // SAFETY: `entry` is on the list, as the caller promises. So a node lies there, or
    // the head.
    unsafe { AtomicPtr::from_ptr(at.cast()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;
    use crate::os::futex::{FUTEX_OWNER_DIED, FUTEX_WAITERS};

    #[test]
    fn numbers_are_documented() {
        documented::bits(
            "lock",
            &[
                ("FUTEX_TID_MASK", FUTEX_TID_MASK.into()),
                ("FUTEX_OWNER_DIED", FUTEX_OWNER_DIED.into()),
                ("FUTEX_WAITERS", FUTEX_WAITERS.into()),
            ],
        );
    }
}
