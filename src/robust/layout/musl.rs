//! musl's `pthread_mutex_t` (`src/internal/pthread_impl.h`, 1.1.22 and later).
//!
//! musl's waiters count themselves in the word [`waiters`](MutexWords::waiters). They
//! also set `FUTEX_WAITERS` in the lock word, but a waiter that the kernel has woken
//! sets it only when it sleeps again. If that waiter dies first, only the count shows
//! the others. musl's unlock reads the count, and the kernel does not. So every locker
//! of this crate sets `FUTEX_WAITERS` after it has locked, if the count is not 0. A
//! waiter that comes later sets it itself. musl does not lower the count when a waiter
//! dies. Each later unlock of that mutex then calls the kernel.
//!
//! Waiters of musl do not recheck. If one is killed just after it was woken, and the
//! next holder dies or is musl's own code, other waiters of musl may sleep beside a
//! free mutex. Those of this crate do not.

use std::ffi::c_long;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};

use super::entry::{LastOwner, ListNode};
use crate::os::futex::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

/// `_m_type` of a mutex that is process-shared, robust and error-checking.
pub(in crate::robust) const KIND_PSHARED_ROBUST_ERRORCHECK: u32 = 0x80 | 4 | 2;

/// `_m_type` of a mutex that is process-shared, robust and normal, with priority
/// inheritance.
pub(in crate::robust) const KIND_PSHARED_ROBUST_PI: u32 = 0x80 | 4 | KIND_PRIO_INHERIT;

/// Bits of `_m_type` that have no meaning: none.
pub(super) const KIND_IGNORED: u32 = 0;

/// The bit of `_m_type` for priority inheritance.
pub(super) const KIND_PRIO_INHERIT: u32 = 8;

/// musl does not mark the list entries of mutexes with priority inheritance. The kernel
/// then wakes plain waiters of such a mutex, too, which does no harm.
pub(in crate::robust) const PI_FLAG: usize = 0;

/// The word before the head of a list is a variable of musl that has nothing to do with
/// mutexes.
pub(super) const HEAD_HAS_PREV: bool = false;

/// musl registers the list of a thread when it locks the first process-shared mutex. In
/// a forked child it registers the list anew, but does not empty it.
pub(in crate::robust) const REGISTERS_AT_FIRST_LOCK: bool = true;

/// The bits of the lock word that stay when a thread locks after an owner death, until
/// [`mark_consistent`](MutexWords::mark_consistent).
pub(in crate::robust) const KEPT_UNTIL_CONSISTENT: u32 = FUTEX_OWNER_DIED;

/// The lock word after an unlock without `pthread_mutex_consistent`. Its thread id is
/// that of no thread.
const NOT_RECOVERABLE: u32 = i32::MAX as u32;

/// `_m_waiters` after such an unlock of a mutex with priority inheritance.
const NOT_RECOVERABLE_PI: u32 = u32::MAX;

/// A `pthread_mutex_t`.
#[repr(C)]
pub(in crate::robust) struct MutexWords {
    pub(super) kind: AtomicU32,
    /// The futex word: the holder's thread id, `FUTEX_WAITERS`, `FUTEX_OWNER_DIED`.
    pub(in crate::robust) lock: AtomicU32,
    /// How many threads wait in musl's functions.
    waiters: AtomicU32,
    _unused: [AtomicU32; 2],
    /// How many times the holder has locked a recursive mutex again. Otherwise 0.
    count: AtomicU32,
    pub(in crate::robust) list: ListNode,
}

/// The offset in a mutex to which a list entry points.
pub(super) const ENTRY_OFFSET: usize = offset_of!(MutexWords, list) + offset_of!(ListNode, next);

/// `futex_offset` in the head of a list: the distance from an entry to the lock word.
pub(super) const FUTEX_OFFSET: c_long =
    offset_of!(MutexWords, lock) as c_long - ENTRY_OFFSET as c_long;

/// Returns whether the lock word says that the mutex is unrecoverable.
#[inline]
pub(in crate::robust) fn is_unrecoverable_word(word: u32) -> bool {
    word & FUTEX_TID_MASK == NOT_RECOVERABLE & FUTEX_TID_MASK
}

impl MutexWords {
    /// Sets `FUTEX_WAITERS` in the word of a mutex that this thread has just locked, if
    /// threads wait in musl's functions.
    #[inline]
    pub(in crate::robust) fn note_counted_waiters(&self) {
        if self.waiters.load(Ordering::Relaxed) != 0 {
            self.lock.fetch_or(FUTEX_WAITERS, Ordering::Relaxed);
        }
    }

    /// Records that the mutex is locked once: musl counts further locks only. A waiter
    /// for a mutex with priority inheritance that has died may have left −1.
    #[inline]
    pub(in crate::robust) fn set_count(&self) {
        self.count.store(0, Ordering::Relaxed);
    }

    /// Records that the mutex is not locked: musl has no word for that.
    pub(in crate::robust) fn clear_count(&self) {}

    /// Records the holder: musl stores its id in the lock word only.
    #[inline]
    pub(in crate::robust) fn set_owner(&self, _tid: u32) {}

    /// Records that no thread holds the mutex: musl has no word for that.
    #[inline]
    pub(in crate::robust) fn clear_owner(&self) {}

    /// Leaves the pointers of a mutex that was removed from the list, as musl does.
    #[inline]
    pub(in crate::robust) fn clear_list_node(&self) {}

    /// Returns whether the death of a holder is to be reported, if the lock word says
    /// that the holder died. An unrecoverable mutex with priority inheritance stays so.
    pub(in crate::robust) fn owner_death_counts(&self) -> bool {
        !self.is_unrecoverable()
    }

    /// Interprets the lock word. Any value has a meaning.
    pub(in crate::robust) fn last_owner(&self) -> LastOwner {
        let word = self.lock.load(Ordering::Relaxed);
        match word & FUTEX_TID_MASK {
            _ if is_unrecoverable_word(word) => LastOwner::NoThread,
            _ if word & FUTEX_OWNER_DIED != 0 => LastOwner::NotStored,
            0 => LastOwner::NoThread,
            tid => LastOwner::Thread(tid),
        }
    }

    /// Marks the mutex, which the calling thread holds, as consistent. This is all that
    /// `pthread_mutex_consistent` does.
    pub(in crate::robust) fn mark_consistent(&self, _tid: u32) {
        self.lock.fetch_and(!FUTEX_OWNER_DIED, Ordering::Relaxed);
    }

    /// Returns whether the holder died and no thread has locked the mutex since.
    pub(in crate::robust) fn owner_died(&self) -> bool {
        let word = self.lock.load(Ordering::Relaxed);
        word & (FUTEX_OWNER_DIED | FUTEX_TID_MASK) == FUTEX_OWNER_DIED
    }

    /// Returns whether a thread has unlocked the mutex after an owner death without
    /// making it consistent.
    #[inline]
    pub(in crate::robust) fn is_unrecoverable(&self) -> bool {
        is_unrecoverable_word(self.lock.load(Ordering::Relaxed))
            || self.waiters.load(Ordering::Relaxed) == NOT_RECOVERABLE_PI
                && self.kind.load(Ordering::Relaxed) & KIND_PRIO_INHERIT != 0
    }

    /// Returns whether the words that only musl has are those of a mutex that libc has
    /// locked for the first time.
    pub(super) fn matches_known_words(&self, _tid: u32) -> bool {
        let value = |word: &AtomicU32| word.load(Ordering::Relaxed);
        value(&self.waiters) == 0
            // `_m_count` counts further locks of a recursive mutex.
            && value(&self.count) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Entry;
    use super::*;
    use crate::documented;

    /// A waiter of musl that was woken and killed leaves the others counted, but the
    /// lock word without `FUTEX_WAITERS`.
    #[test]
    fn locker_notes_counted_waiters() {
        // SAFETY: zeros are valid, because all fields are atomics.
        let mutex: MutexWords = unsafe { std::mem::zeroed() };
        mutex.lock.store(7, Ordering::Relaxed);
        mutex.note_counted_waiters();
        assert_eq!(mutex.lock.load(Ordering::Relaxed), 7);
        mutex.waiters.store(2, Ordering::Relaxed);
        mutex.note_counted_waiters();
        assert_eq!(mutex.lock.load(Ordering::Relaxed), 7 | FUTEX_WAITERS);
    }

    #[test]
    fn unrecoverable_mutex_stays_so_after_a_death() {
        // SAFETY: zeros are valid, because all fields are atomics.
        let mutex: MutexWords = unsafe { std::mem::zeroed() };
        mutex.kind.store(KIND_PSHARED_ROBUST_PI, Ordering::Relaxed);
        mutex.lock.store(FUTEX_OWNER_DIED, Ordering::Relaxed);
        assert!(mutex.owner_death_counts());
        mutex.waiters.store(NOT_RECOVERABLE_PI, Ordering::Relaxed);
        assert!(!mutex.owner_death_counts());
    }

    #[test]
    fn numbers_are_documented() {
        documented::rows(
            "pthread_mutex_t of musl",
            &[
                ("kind", offset_of!(MutexWords, kind), 4),
                ("lock", offset_of!(MutexWords, lock), 4),
                ("waiters", offset_of!(MutexWords, waiters), 4),
                ("_unused", offset_of!(MutexWords, _unused), 8),
                ("count", offset_of!(MutexWords, count), 4),
                (
                    "list.prev",
                    offset_of!(MutexWords, list.prev),
                    size_of::<Entry>(),
                ),
                (
                    "list.next",
                    offset_of!(MutexWords, list.next),
                    size_of::<Entry>(),
                ),
            ],
            &[],
            None,
        );
        documented::values(
            "kind and lock of musl",
            &[
                (
                    "KIND_PSHARED_ROBUST_ERRORCHECK",
                    KIND_PSHARED_ROBUST_ERRORCHECK.into(),
                ),
                ("KIND_PSHARED_ROBUST_PI", KIND_PSHARED_ROBUST_PI.into()),
                ("NOT_RECOVERABLE", NOT_RECOVERABLE.into()),
                ("NOT_RECOVERABLE_PI", NOT_RECOVERABLE_PI.into()),
            ],
        );
        documented::values(
            "constants of the robust list of musl",
            &[
                ("ENTRY_OFFSET", ENTRY_OFFSET as u64),
                ("PI_FLAG", PI_FLAG as u64),
            ],
        );
        assert_eq!(FUTEX_OFFSET, -28, "docs/format.md has the number");
    }
}
