//! The words of glibc's `pthread_mutex_t`, and their meaning.
//!
//! The layout is that of glibc on 64-bit machines. It is part of glibc's ABI since
//! version 2.5, because C programs have it compiled in. [`LockOwner::of_this_thread`]
//! verifies it nevertheless: libc locks a mutex, and
//! [`matches_known_layout`](GlibcMutex::matches_known_layout) checks every word.
//!
//! [`LockOwner::of_this_thread`]: super::owner::LockOwner::of_this_thread

use std::ffi::c_long;
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use crate::os::futex::FUTEX_TID_MASK;
use crate::os::pthread::PthreadMutex;
use crate::os::robust_list::RobustListHead;

/// The lock word of a mutex that no thread holds.
pub(super) const UNLOCKED: u32 = 0;

/// `__kind` of a mutex that is process-shared, robust and error-checking.
pub(super) const KIND_PSHARED_ROBUST_ERRORCHECK: u32 = 0x80 | 0x10 | 2;

/// `__kind` of a mutex that is process-shared, robust and normal, with priority
/// inheritance. The last bit disables lock elision (`PTHREAD_MUTEX_NO_ELISION_NP`).
/// glibc sets it for every mutex that was declared normal.
pub(super) const KIND_PSHARED_ROBUST_PI: u32 = 0x80 | 0x10 | KIND_PRIO_INHERIT | 0x200;

/// The bit of `__kind` for priority inheritance (`PTHREAD_MUTEX_PRIO_INHERIT_NP`).
const KIND_PRIO_INHERIT: u32 = 0x20;

/// `__owner` of a mutex that no thread holds.
const NO_OWNER: u32 = 0;

/// `__owner` after `EOWNERDEAD`, until `pthread_mutex_consistent`
/// (`PTHREAD_MUTEX_INCONSISTENT`).
const INCONSISTENT: u32 = i32::MAX as u32;

/// `__owner` after an unlock without `pthread_mutex_consistent`
/// (`PTHREAD_MUTEX_NOTRECOVERABLE`).
const NOT_RECOVERABLE: u32 = i32::MAX as u32 - 1;

/// Bit 0 of a list entry: the mutex has priority inheritance (`FUTEX_ROBUST_MOD_PI` in
/// the kernel's documentation).
const PI_FLAG: usize = 1;

/// An entry of a robust list: a pointer to [`ListNode::next`] of a mutex or to
/// [`RobustListHead::list`], perhaps with [`PI_FLAG`].
pub(crate) type Entry = *mut ();

/// A `pthread_mutex_t`.
#[repr(C)]
pub(super) struct GlibcMutex {
    /// The futex word: the holder's thread id, `FUTEX_WAITERS`, `FUTEX_OWNER_DIED`.
    pub(super) lock: AtomicU32,
    /// How many times the holder has locked a recursive mutex. Otherwise 1 or 0.
    pub(super) count: AtomicU32,
    /// The holder's thread id, or a special value: see [`LastOwner`].
    pub(super) owner: AtomicU32,
    nusers: AtomicU32,
    kind: AtomicU32,
    _spins: AtomicU32,
    pub(super) list: ListNode,
}

/// The part of a mutex by which it is on the list of its holder.
#[repr(C)]
pub(super) struct ListNode {
    pub(super) prev: AtomicPtr<()>,
    pub(super) next: AtomicPtr<()>,
}

const _: () = {
    assert!(size_of::<GlibcMutex>() <= size_of::<PthreadMutex>());
    assert!(align_of::<GlibcMutex>() <= align_of::<PthreadMutex>());
};

/// The offset in a mutex to which a list entry points.
const ENTRY_OFFSET: usize = offset_of!(GlibcMutex, list) + offset_of!(ListNode, next);

/// `futex_offset` in the head of a list: the distance from an entry to the futex word.
const FUTEX_OFFSET: c_long = -(ENTRY_OFFSET as c_long);

/// The thread that holds a mutex, or held it last, by the word `__owner`.
///
/// When the holder dies, the kernel removes its id from the lock word. It does not
/// change `__owner`, glibc's own word. Every locker, C code included, writes its id
/// there, and every unlock removes it. So after an owner death, `__owner` still names
/// the dead thread.
///
/// glibc overwrites `__owner` with [`INCONSISTENT`] when it locks after an owner death.
/// This crate leaves it as it is until
/// [`mark_consistent`](super::RobustMutex::mark_consistent).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastOwner {
    /// This thread holds the mutex, or died while it held the mutex.
    Thread(u32),
    /// glibc has locked the mutex after an owner death, and its caller has not made it
    /// consistent.
    Inconsistent,
    /// The mutex is free or unrecoverable. Or its holder died within the few
    /// instructions before it wrote its id or after it removed it.
    NoThread,
}

impl GlibcMutex {
    /// Returns the words of a mutex, initialised or not.
    #[inline]
    pub(super) fn of(mutex: &PthreadMutex) -> &Self {
        // SAFETY: a `PthreadMutex` is at least as large and aligned as these words, by
        // the assertions above. Any bytes are valid as atomic words. Its bytes are
        // initialised, and threads may change them, because all fields are atomics.
        unsafe { &*ptr::from_ref(mutex).cast::<Self>() }
    }

    /// Returns the list entry of a mutex without priority inheritance. The pointer may
    /// be used to access the whole mutex.
    #[inline]
    pub(super) fn entry(&self) -> Entry {
        ptr::from_ref(self)
            .cast_mut()
            .wrapping_byte_add(ENTRY_OFFSET)
            .cast()
    }

    /// Returns the list entry of a mutex with priority inheritance.
    pub(super) fn pi_entry(&self) -> Entry {
        self.entry().map_addr(|address| address | PI_FLAG)
    }

    /// Returns `__kind`: type, robustness, protocol and process-shared flag.
    #[inline]
    pub(super) fn kind(&self) -> u32 {
        // Relaxed, here and below: the lock orders these words. For a caller without
        // the lock, a value is a snapshot.
        self.kind.load(Ordering::Relaxed)
    }

    /// Returns whether the mutex has priority inheritance. Its other properties may be
    /// any.
    pub(super) fn has_priority_inheritance(&self) -> bool {
        self.kind() & KIND_PRIO_INHERIT != 0
    }

    /// Records that the thread `tid` holds the mutex, and that the data is consistent.
    #[inline]
    pub(super) fn set_owner(&self, tid: u32) {
        self.owner.store(tid, Ordering::Relaxed);
        let nusers = self.nusers.load(Ordering::Relaxed).wrapping_add(1);
        self.nusers.store(nusers, Ordering::Relaxed);
    }

    /// Records that no thread holds the mutex.
    #[inline]
    pub(super) fn clear_owner(&self) {
        self.owner.store(NO_OWNER, Ordering::Relaxed);
        let nusers = self.nusers.load(Ordering::Relaxed).wrapping_sub(1);
        self.nusers.store(nusers, Ordering::Relaxed);
    }

    /// Interprets `__owner`. Any value has a meaning.
    pub(super) fn last_owner(&self) -> LastOwner {
        match self.owner.load(Ordering::Relaxed) {
            INCONSISTENT => LastOwner::Inconsistent,
            NO_OWNER | NOT_RECOVERABLE => LastOwner::NoThread,
            tid => LastOwner::Thread(tid),
        }
    }

    /// Returns whether a thread has unlocked the mutex after an owner death without
    /// making it consistent.
    #[inline]
    pub(super) fn is_unrecoverable(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == NOT_RECOVERABLE
    }

    /// Returns the thread id in the lock word, or 0.
    #[inline]
    pub(super) fn holder(&self) -> u32 {
        self.lock.load(Ordering::Relaxed) & FUTEX_TID_MASK
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

    /// Returns whether glibc's layout is the known one. libc has just locked this mutex
    /// in the calling thread, `tid`, whose list has the head `head`.
    pub(super) fn matches_known_layout(&self, head: &RobustListHead, tid: u32) -> bool {
        let value = |word: &AtomicU32| word.load(Ordering::Relaxed);
        let pointer = |word: &AtomicPtr<()>| word.load(Ordering::Relaxed);
        let next = pointer(&self.list.next);
        // glibc has registered the distance from `__next` to `__lock`.
        head.futex_offset == FUTEX_OFFSET
            // `__lock` is the thread id, without `FUTEX_WAITERS`.
            && value(&self.lock) == tid
            // `__owner` is the thread id.
            && value(&self.owner) == tid
            // `__count` is 1 for a mutex that is not recursive, too.
            && value(&self.count) == 1
            // `__nusers` is the number of holders.
            && value(&self.nusers) == 1
            // `__kind` has the bits that the attributes have asked for, and no others.
            && self.kind() == KIND_PSHARED_ROBUST_ERRORCHECK
            // glibc puts new entries in front, so `__prev` is the head,
            && pointer(&self.list.prev).addr() == ptr::from_ref(head).addr()
            // and the head's first entry is this mutex, without a flag in bit 0.
            && pointer(&head.list) == self.entry()
            // glibc has cleared `list_op_pending` at the end of the lock.
            && pointer(&head.list_op_pending).is_null()
            // `__next` is an entry: the list is circular.
            && !next.is_null()
            // The next entry's `__prev` is this mutex. In the head, that word lies
            // before the `list`.
            // SAFETY: `next` is on the calling thread's list: libc has just inserted
            // this mutex before it.
            && pointer(unsafe { prev_of(next) }) == self.entry()
    }
}

/// Returns [`ListNode::prev`] of the node to which `entry` points. For the head it is
/// glibc's word before [`RobustListHead::list`].
///
/// # Safety
///
/// * `entry` is on the calling thread's list, or is its head.
#[inline]
pub(super) unsafe fn prev_of<'a>(entry: Entry) -> &'a AtomicPtr<()> {
    const BACK: usize = offset_of!(ListNode, next) - offset_of!(ListNode, prev);
    let at = entry
        .map_addr(|address| address & !PI_FLAG)
        .wrapping_byte_sub(BACK);
    // SAFETY: `entry` is on the list, as the caller promises. So a node lies there, or
    // the word before the head.
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
        documented::rows(
            "pthread_mutex_t",
            &[
                ("lock", offset_of!(GlibcMutex, lock), 4),
                ("count", offset_of!(GlibcMutex, count), 4),
                ("owner", offset_of!(GlibcMutex, owner), 4),
                ("nusers", offset_of!(GlibcMutex, nusers), 4),
                ("kind", offset_of!(GlibcMutex, kind), 4),
                ("_spins", offset_of!(GlibcMutex, _spins), 4),
                (
                    "list.prev",
                    offset_of!(GlibcMutex, list.prev),
                    size_of::<Entry>(),
                ),
                (
                    "list.next",
                    offset_of!(GlibcMutex, list.next),
                    size_of::<Entry>(),
                ),
            ],
            &[],
            None,
        );
        documented::bits(
            "lock",
            &[
                ("FUTEX_TID_MASK", FUTEX_TID_MASK.into()),
                ("FUTEX_OWNER_DIED", FUTEX_OWNER_DIED.into()),
                ("FUTEX_WAITERS", FUTEX_WAITERS.into()),
            ],
        );
        documented::values(
            "kind and owner",
            &[
                (
                    "KIND_PSHARED_ROBUST_ERRORCHECK",
                    KIND_PSHARED_ROBUST_ERRORCHECK.into(),
                ),
                ("KIND_PSHARED_ROBUST_PI", KIND_PSHARED_ROBUST_PI.into()),
                ("NO_OWNER", NO_OWNER.into()),
                ("INCONSISTENT", INCONSISTENT.into()),
                ("NOT_RECOVERABLE", NOT_RECOVERABLE.into()),
            ],
        );
        documented::values(
            "constants of the robust list",
            &[
                ("ENTRY_OFFSET", ENTRY_OFFSET as u64),
                ("PI_FLAG", PI_FLAG as u64),
            ],
        );
        assert_eq!(FUTEX_OFFSET, -32, "docs/format.md has the number");
    }
}
