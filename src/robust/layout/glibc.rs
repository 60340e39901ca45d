//! glibc's `pthread_mutex_t` (`nptl/pthreadP.h`, `bits/struct_mutex.h`).

use std::ffi::c_long;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::entry::{LastOwner, ListNode};
use crate::os::futex::FUTEX_OWNER_DIED;

/// `__kind` of a mutex that is process-shared, robust and error-checking.
pub(in crate::robust) const KIND_PSHARED_ROBUST_ERRORCHECK: u32 = 0x80 | 0x10 | 2;

/// `__kind` of a mutex that is process-shared, robust and normal, with priority
/// inheritance. [`KIND_IGNORED`] may be set as well.
pub(in crate::robust) const KIND_PSHARED_ROBUST_PI: u32 = 0x80 | 0x10 | KIND_PRIO_INHERIT;

/// The bit of `__kind` that disables lock elision (`PTHREAD_MUTEX_NO_ELISION_NP`).
/// glibc 2.31 to 2.41 sets it in every mutex that was declared normal, and 2.43 does
/// not. It has no meaning in a mutex with priority inheritance.
pub(super) const KIND_IGNORED: u32 = 0x200;

/// The bit of `__kind` for priority inheritance (`PTHREAD_MUTEX_PRIO_INHERIT_NP`).
pub(super) const KIND_PRIO_INHERIT: u32 = 0x20;

/// Bit 0 of a list entry: the mutex has priority inheritance (`FUTEX_ROBUST_MOD_PI` in
/// the kernel's documentation).
pub(in crate::robust) const PI_FLAG: usize = 1;

/// The head of a list has the form of a node: the word before it is for the previous
/// entry, which is the last one.
pub(super) const HEAD_HAS_PREV: bool = true;

/// glibc registers the list when a thread begins, and in a forked child.
pub(in crate::robust) const REGISTERS_AT_FIRST_LOCK: bool = false;

/// The bits of the lock word that stay when a thread locks after an owner death, until
/// [`mark_consistent`](MutexWords::mark_consistent): none.
pub(in crate::robust) const KEPT_UNTIL_CONSISTENT: u32 = 0;

/// `__owner` of a mutex that no thread holds.
const NO_OWNER: u32 = 0;

/// `__owner` after `EOWNERDEAD`, until `pthread_mutex_consistent`
/// (`PTHREAD_MUTEX_INCONSISTENT`).
const INCONSISTENT: u32 = i32::MAX as u32;

/// `__owner` after an unlock without `pthread_mutex_consistent`
/// (`PTHREAD_MUTEX_NOTRECOVERABLE`).
const NOT_RECOVERABLE: u32 = i32::MAX as u32 - 1;

/// A `pthread_mutex_t`.
#[repr(C)]
pub(in crate::robust) struct MutexWords {
    /// The futex word: the holder's thread id, `FUTEX_WAITERS`, `FUTEX_OWNER_DIED`.
    pub(in crate::robust) lock: AtomicU32,
    /// How many times the holder has locked a recursive mutex. Otherwise 1 or 0.
    count: AtomicU32,
    /// Two words of glibc: `__owner`, which is the holder's thread id or a special
    /// value (see [`last_owner`](Self::last_owner)), and `__nusers`, the number of
    /// holders.
    owner_and_users: AtomicU64,
    pub(super) kind: AtomicU32,
    _spins: AtomicU32,
    pub(in crate::robust) list: ListNode,
}

/// The offset in a mutex to which a list entry points.
pub(super) const ENTRY_OFFSET: usize = offset_of!(MutexWords, list) + offset_of!(ListNode, next);

/// `futex_offset` in the head of a list: the distance from an entry to the lock word.
pub(super) const FUTEX_OFFSET: c_long =
    offset_of!(MutexWords, lock) as c_long - ENTRY_OFFSET as c_long;

/// Returns the two words of [`MutexWords::owner_and_users`] as one.
#[inline]
fn owner_and_users(owner: u32, users: u32) -> u64 {
    // In the order in which they lie in memory, on machines of either byte order.
    let ([a, b, c, d], [e, f, g, h]) = (owner.to_ne_bytes(), users.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// Returns `__owner` and `__nusers`.
#[inline]
fn words_of(owner_and_users: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = owner_and_users.to_ne_bytes();
    [[a, b, c, d], [e, f, g, h]].map(u32::from_ne_bytes)
}

/// Returns whether the lock word says that the mutex is unrecoverable: no value does.
#[inline]
pub(in crate::robust) fn is_unrecoverable_word(_word: u32) -> bool {
    false
}

impl MutexWords {
    /// Sets `FUTEX_WAITERS` in the word of a mutex that this thread has just locked, if
    /// another word says that threads wait: none does.
    #[inline]
    pub(in crate::robust) fn note_counted_waiters(&self) {}

    /// Records that the mutex is locked once, before it goes to the list.
    #[inline]
    pub(in crate::robust) fn set_count(&self) {
        // An unlock leaves the word, so it is usually right.
        if self.count.load(Ordering::Relaxed) != 1 {
            self.count.store(1, Ordering::Relaxed);
        }
    }

    /// Records that the mutex is not locked.
    pub(in crate::robust) fn clear_count(&self) {
        self.count.store(0, Ordering::Relaxed);
    }

    /// Records that the thread `tid` holds the mutex, and that the data is consistent.
    #[inline]
    pub(in crate::robust) fn set_owner(&self, tid: u32) {
        let words = owner_and_users(tid, 1);
        self.owner_and_users.store(words, Ordering::Relaxed);
    }

    /// Records that no thread holds the mutex.
    #[inline]
    pub(in crate::robust) fn clear_owner(&self) {
        let words = owner_and_users(NO_OWNER, 0);
        self.owner_and_users.store(words, Ordering::Relaxed);
    }

    /// Clears the next entry of a mutex that was removed from the list. The C header
    /// reads it to tell whether the mutex is on a list. glibc clears the previous entry
    /// as well, which no code reads.
    #[inline]
    pub(in crate::robust) fn clear_list_node(&self) {
        let none = std::ptr::null_mut();
        self.list.next.store(none, Ordering::Relaxed);
    }

    #[inline]
    fn owner(&self) -> u32 {
        // In Rust, atomic accesses of different sizes to one word must not be mixed. So
        // this reads both words.
        let [owner, _] = words_of(self.owner_and_users.load(Ordering::Relaxed));
        owner
    }

    /// Returns whether the death of a holder is to be reported, if the lock word says
    /// that the holder died.
    pub(in crate::robust) fn owner_death_counts(&self) -> bool {
        true
    }

    /// Interprets `__owner`. Any value has a meaning.
    ///
    /// Every locker, C code included, writes its id there, and every unlock removes it.
    /// So after an owner death, `__owner` still names the dead thread.
    ///
    /// glibc overwrites `__owner` with [`INCONSISTENT`] when it locks after an owner
    /// death. This crate leaves it as it is until
    /// [`mark_consistent`](Self::mark_consistent).
    pub(in crate::robust) fn last_owner(&self) -> LastOwner {
        match self.owner() {
            INCONSISTENT => LastOwner::Inconsistent,
            NO_OWNER | NOT_RECOVERABLE => LastOwner::NoThread,
            tid => LastOwner::Thread(tid),
        }
    }

    /// Marks the mutex, which the thread `tid` holds, as consistent. This stores
    /// `__owner` as `pthread_mutex_consistent` does, and 1 in `__nusers`.
    pub(in crate::robust) fn mark_consistent(&self, tid: u32) {
        self.set_owner(tid);
    }

    /// Returns whether the holder died and no thread has locked the mutex since.
    pub(in crate::robust) fn owner_died(&self) -> bool {
        self.lock.load(Ordering::Relaxed) & FUTEX_OWNER_DIED != 0
    }

    /// Returns whether a thread has unlocked the mutex after an owner death without
    /// making it consistent.
    #[inline]
    pub(in crate::robust) fn is_unrecoverable(&self) -> bool {
        self.owner() == NOT_RECOVERABLE
    }

    /// Returns whether the words that only glibc has are those of a mutex that libc has
    /// locked for the first time, in the thread `tid`.
    pub(super) fn matches_known_words(&self, tid: u32) -> bool {
        // `__owner` is the thread id, and `__nusers` the number of holders.
        self.owner_and_users.load(Ordering::Relaxed) == owner_and_users(tid, 1)
            // `__count` is 1 for a mutex that is not recursive, too.
            && self.count.load(Ordering::Relaxed) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::Entry;
    use super::*;
    use crate::documented;

    #[test]
    fn numbers_are_documented() {
        documented::rows(
            "pthread_mutex_t",
            &[
                ("lock", offset_of!(MutexWords, lock), 4),
                ("count", offset_of!(MutexWords, count), 4),
                (
                    "owner_and_users",
                    offset_of!(MutexWords, owner_and_users),
                    8,
                ),
                ("kind", offset_of!(MutexWords, kind), 4),
                ("_spins", offset_of!(MutexWords, _spins), 4),
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
            "kind and owner",
            &[
                (
                    "KIND_PSHARED_ROBUST_ERRORCHECK",
                    KIND_PSHARED_ROBUST_ERRORCHECK.into(),
                ),
                ("KIND_PSHARED_ROBUST_PI", KIND_PSHARED_ROBUST_PI.into()),
                ("KIND_IGNORED", KIND_IGNORED.into()),
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
