//! The poison word: a persistent mark that the data beside it is in doubt.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use crate::error::PoisonCause;
use crate::robust::ThreadId;

/// How the last unlucky holder ended: the top bits of the poison word.
mod kind {
    pub(super) const SHIFT: u32 = 60;
    pub(super) const OWNER_DIED: u64 = 1;
    pub(super) const PANICKED: u64 = 2;
}

/// The mark itself, in shared memory.
///
/// | bits | meaning |
/// |---|---|
/// | 0–59 | who did it ([`ThreadId`]), zero if unknown |
/// | 60–63 | 0: not poisoned; 1: the owner died; 2: the owner panicked |
///
/// # Memory ordering
///
/// The word is set and read by holders of the lock beside it, so the lock
/// orders it, and `Relaxed` is enough. Those who look without the lock
/// (`is_poisoned`, sleepers of a condition variable) want a hint, and take the
/// lock before they act on it.
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

    pub(super) fn cause(&self) -> Option<PoisonCause> {
        Self::cause_in(self.0.load(Ordering::Relaxed))
    }

    fn cause_in(word: u64) -> Option<PoisonCause> {
        let who = ThreadId::from_word(word);
        let (pid, tid) = (who.pid(), who.tid());
        match word >> kind::SHIFT {
            0 => None,
            kind::PANICKED => Some(PoisonCause::Panicked { pid, tid }),
            // A kind from a later version is still a reason to doubt.
            _ => Some(PoisonCause::OwnerDied { pid, tid }),
        }
    }

    /// Marks that `who` died with the lock held. A later mark replaces an
    /// earlier one: the last to leave the data in doubt is named.
    pub(super) fn set_owner_died(&self, who: ThreadId) {
        self.set(kind::OWNER_DIED, who);
    }

    /// Marks that `who` panicked with the lock held.
    pub(super) fn set_panicked(&self, who: ThreadId) {
        self.set(kind::PANICKED, who);
    }

    fn set(&self, kind: u64, who: ThreadId) {
        let word = kind << kind::SHIFT | who.to_word();
        self.0.store(word, Ordering::Relaxed);
    }

    pub(super) fn clear(&self) {
        self.0.store(Self::CLEAN, Ordering::Relaxed);
    }

    /// Clears it if that is the cause. If not, says what is.
    pub(super) fn clear_if(&self, expected: PoisonCause) -> Result<(), Option<PoisonCause>> {
        let relaxed = Ordering::Relaxed;
        let cleared = self.0.fetch_update(relaxed, relaxed, |word| {
            (Self::cause_in(word) == Some(expected)).then_some(Self::CLEAN)
        });
        cleared.map(drop).map_err(Self::cause_in)
    }
}

/// How many times the word was set, for those who sleep while it may be set and
/// cleared again. Wraps around; readers compare for equality only.
#[repr(C)]
pub(super) struct PoisonEpoch(AtomicU16);

impl PoisonEpoch {
    pub(super) const fn new() -> Self {
        Self(AtomicU16::new(0))
    }

    pub(super) fn get(&self) -> u16 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn an_unknown_culprit_still_poisons() {
        let word = PoisonWord::new();
        word.set_owner_died(ThreadId::NONE);
        assert!(word.is_set());
        assert_eq!(
            word.cause(),
            Some(PoisonCause::OwnerDied { pid: 0, tid: 0 })
        );
    }
}
