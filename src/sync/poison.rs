//! The poison word: a persistent flag that the data may be inconsistent, with its
//! cause.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::PoisonCause;
use crate::robust::ThreadId;

/// Why the mutex is poisoned (bits 60–63).
mod kind {
    pub(super) const SHIFT: u32 = 60;
    pub(super) const OWNER_DIED: u64 = 1;
    pub(super) const PANICKED: u64 = 2;
}

/// The poison of one mutex, in shared memory.
///
/// | bits | meaning |
/// |---|---|
/// | 0–59 | the holder that failed ([`ThreadId`]), zero if unknown |
/// | 60–63 | 0: not poisoned; 1: the owner died; 2: the owner panicked |
///
/// # Memory ordering
///
/// Holders of the lock set and read the word, so the lock orders it, and `Relaxed` is
/// enough. Readers without the lock (`is_poisoned`, waiters of a condition variable)
/// need only a hint: they lock before they act on it.
#[repr(C)]
pub(super) struct PoisonWord(AtomicU64);

impl PoisonWord {
    const CLEAN: u64 = 0;

    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(Self::CLEAN))
    }

    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != Self::CLEAN
    }

    #[cold]
    pub(super) fn cause(&self) -> Option<PoisonCause> {
        Self::cause_in(self.0.load(Ordering::Relaxed))
    }

    fn cause_in(word: u64) -> Option<PoisonCause> {
        let holder = ThreadId::from_word(word);
        let (pid, tid) = (holder.pid(), holder.tid());
        match word >> kind::SHIFT {
            0 => None,
            kind::PANICKED => Some(PoisonCause::Panicked { pid, tid }),
            // Includes unknown causes of later versions: the data may be inconsistent.
            _ => Some(PoisonCause::OwnerDied { pid, tid }),
        }
    }

    /// Records that `holder` died with the lock held. Replaces an earlier cause, so the
    /// word names the most recent holder that failed.
    pub(super) fn set_owner_died(&self, holder: ThreadId) {
        self.set(kind::OWNER_DIED, holder);
    }

    /// Records that `holder` panicked with the lock held. Replaces an earlier cause.
    pub(super) fn set_panicked(&self, holder: ThreadId) {
        self.set(kind::PANICKED, holder);
    }

    fn set(&self, kind: u64, holder: ThreadId) {
        let word = kind << kind::SHIFT | holder.to_word();
        self.0.store(word, Ordering::Relaxed);
    }

    pub(super) fn clear(&self) {
        self.0.store(Self::CLEAN, Ordering::Relaxed);
    }

    /// Clears the poison if its cause is `expected`. Returns the actual cause if not.
    pub(super) fn clear_if(&self, expected: PoisonCause) -> Result<(), Option<PoisonCause>> {
        let relaxed = Ordering::Relaxed;
        let cleared = self.0.fetch_update(relaxed, relaxed, |word| {
            (Self::cause_in(word) == Some(expected)).then_some(Self::CLEAN)
        });
        cleared.map(drop).map_err(Self::cause_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn smoke() {
        let word = PoisonWord::new();
        assert!(!word.is_set());
        assert_eq!(word.cause(), None);

        word.set_owner_died(ThreadId::new(41, 42));
        assert!(word.is_set());
        assert_eq!(
            word.cause(),
            Some(PoisonCause::OwnerDied { pid: 41, tid: 42 })
        );

        word.set_panicked(ThreadId::new(51, 52));
        assert_eq!(
            word.cause(),
            Some(PoisonCause::Panicked { pid: 51, tid: 52 })
        );

        word.clear();
        assert_eq!(word.cause(), None);
    }

    #[test]
    fn unknown_holder_poisons() {
        let word = PoisonWord::new();
        word.set_owner_died(ThreadId::NONE);
        assert!(word.is_set());
        assert_eq!(
            word.cause(),
            Some(PoisonCause::OwnerDied { pid: 0, tid: 0 })
        );
    }

    #[test]
    fn numbers_are_documented() {
        let (tid, pid) = (ThreadId::new(0, u32::MAX), ThreadId::new(u32::MAX, 0));
        documented::bits(
            "poison",
            &[
                ("tid", tid.to_word()),
                ("pid", pid.to_word()),
                ("cause", u64::MAX << kind::SHIFT),
            ],
        );
        documented::values(
            "cause",
            &[
                ("CLEAN", PoisonWord::CLEAN),
                ("OWNER_DIED", kind::OWNER_DIED),
                ("PANICKED", kind::PANICKED),
            ],
        );
    }
}
