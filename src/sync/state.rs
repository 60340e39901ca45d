//! What a primitive says, read from a copy of its bytes: for those who look from
//! outside, know no type, and must not touch what they look at.
//!
//! The bytes of a live object were written while they were copied, so they may be
//! a mixture of before and after; and those of a file may be anything.

use std::ptr::NonNull;

use super::condvar::ShmCondvar;
use super::raw_mutex::{Holder, RawMutex};
use crate::error::PoisonCause;

/// The size in bytes of a mutex, without its data.
pub(crate) const MUTEX_LEN: usize = size_of::<RawMutex>();
/// The size in bytes of a `ShmCondvar`.
pub(crate) const CONDVAR_LEN: usize = size_of::<ShmCondvar>();

/// A mutex, as its bytes tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MutexState {
    pub(crate) lock: LockState,
    /// By name. The name comes after the lock and goes before it.
    pub(crate) holder: Option<Holder>,
    /// Includes a death that no locker has come across yet.
    pub(crate) poison: Option<PoisonCause>,
    /// How many times it was poisoned; wraps around.
    pub(crate) poisonings: u16,
    pub(crate) waiters: Waiters,
    /// The namespace in which its ids mean something.
    pub(crate) pid_namespace: u32,
}

/// Whether a lock is held, as the lock word tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockState {
    /// It never came to life.
    NotPlaced,
    Free,
    Held {
        /// The thread id of the holder.
        tid: u32,
    },
    /// The holder died, and nobody has locked since.
    OwnerDied,
    /// A foreign program left the pthread mutex unusable.
    NotRecoverable,
}

/// Whether anybody waits for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiters {
    /// Nobody has said so.
    NoneSeen,
    /// Somebody does, or did until a moment ago, or has died waiting.
    Some,
}

/// A `ShmCondvar`, as its bytes tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CondvarState {
    /// How many notifications there were; wraps around.
    pub(crate) notifications: u32,
    /// Never too few; those who died asleep are counted, too.
    pub(crate) sleepers: u32,
}

/// Reads a mutex.
pub(crate) fn mutex(bytes: [u8; MUTEX_LEN]) -> MutexState {
    // SAFETY: any bytes are valid for a RawMutex (invariant 6 there). The copy is
    // looked at, and never locked.
    let copy = unsafe { std::mem::transmute::<[u8; MUTEX_LEN], RawMutex>(bytes) };
    copy.state()
}

/// Reads a condition variable.
pub(crate) fn condvar(bytes: [u8; CONDVAR_LEN]) -> CondvarState {
    // SAFETY: two atomic words, for which any bytes are valid.
    let copy = unsafe { std::mem::transmute::<[u8; CONDVAR_LEN], ShmCondvar>(bytes) };
    copy.state()
}

/// Takes the poison from the mutex at `at`, if it is the one that was expected.
/// If not, says what it is. The lock is not touched.
///
/// # Safety
///
/// * All bytes of a mutex are mapped there, readable and writable, and stay so
///   during the call.
/// * It is aligned to 8 bytes.
/// * Whoever accesses them at the same time does it as this crate does.
pub(crate) unsafe fn clear_poison(
    at: NonNull<u8>,
    expected: PoisonCause,
) -> Result<(), Option<PoisonCause>> {
    // SAFETY: the caller's promises; any bytes are valid.
    let mutex = unsafe { at.cast::<RawMutex>().as_ref() };
    mutex.poison.clear_if(expected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::ShmMutex;
    use proptest::prelude::*;

    #[test]
    fn smoke() {
        let state = mutex([0; MUTEX_LEN]);
        assert_eq!(state.lock, LockState::Free);
        assert_eq!((state.holder, state.poison), (None, None));
        let state = condvar([0; CONDVAR_LEN]);
        assert_eq!((state.notifications, state.sleepers), (0, 0));
    }

    /// The bytes of a mutex with these words set: offset and value.
    fn with(words: &[(usize, u32)]) -> MutexState {
        let mut bytes = [0; MUTEX_LEN];
        for (at, word) in words {
            bytes[*at..*at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        mutex(bytes)
    }

    #[test]
    fn the_lock_word_tells_who_holds_it() {
        assert_eq!(with(&[(0, 77)]).lock, LockState::Held { tid: 77 });
        assert_eq!(with(&[(0, 77)]).waiters, Waiters::NoneSeen);
        assert_eq!(with(&[(0, 1 << 31 | 77)]).waiters, Waiters::Some);
        assert_eq!(with(&[(0, 1 << 30)]).lock, LockState::OwnerDied);
        assert_eq!(
            with(&[(8, i32::MAX as u32 - 1)]).lock,
            LockState::NotRecoverable
        );
    }

    #[test]
    fn a_lock_that_was_never_placed_says_so() {
        let lock = ShmMutex::new(0_u8);
        // SAFETY: a mutex lies at the start of a ShmMutex; nobody writes to it.
        let bytes = unsafe { (&raw const lock).cast::<[u8; MUTEX_LEN]>().read() };
        assert_eq!(mutex(bytes).lock, LockState::NotPlaced);
    }

    #[test]
    fn only_the_expected_poison_is_cleared() {
        let seen = PoisonCause::OwnerDied { pid: 7, tid: 8 };
        let later = PoisonCause::Panicked { pid: 7, tid: 8 };
        let mut bytes = [0_u64; MUTEX_LEN / 8];
        let at = NonNull::from(&mut bytes).cast::<u8>();
        // SAFETY: the bytes are there, aligned, and nobody else's.
        assert_eq!(unsafe { clear_poison(at, seen) }, Err(None));
        let poison = 1 << 60 | 7 << 30 | 8;
        bytes[6] = poison;
        let at = NonNull::from(&mut bytes).cast::<u8>();
        // SAFETY: as above.
        assert_eq!(unsafe { clear_poison(at, later) }, Err(Some(seen)));
        // SAFETY: as above.
        assert_eq!(unsafe { clear_poison(at, seen) }, Ok(()));
        assert_eq!(bytes, [0; MUTEX_LEN / 8]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_state(
            bytes in proptest::collection::vec(any::<u8>(), MUTEX_LEN),
            condition in any::<[u8; CONDVAR_LEN]>(),
        ) {
            let _ = mutex(bytes.try_into().unwrap());
            let _ = condvar(condition);
        }
    }
}
