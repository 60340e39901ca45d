//! Reads primitives whose type is unknown, from a copy of their bytes.
//!
//! The copy is made while other processes write to the object, so it may mix old and
//! new words. The bytes of a file may be anything.

use std::ptr::NonNull;

use super::condvar::ShmCondvar;
use super::event::ShmEvent;
use super::raw_mutex::RawMutex;
use super::seat::Seat;
use super::snapshot::{CondvarState, EventState, Holder, MutexState, SeatState};
use crate::error::PoisonCause;

/// The size of a mutex without its data, in bytes.
pub(crate) const MUTEX_LEN: usize = size_of::<RawMutex>();
/// The size of a `ShmCondvar`, in bytes.
pub(crate) const CONDVAR_LEN: usize = size_of::<ShmCondvar>();
/// The size of a seat, in bytes.
pub(crate) const SEAT_LEN: usize = size_of::<Seat>();
/// The size of a `ShmEvent`, in bytes.
pub(crate) const EVENT_LEN: usize = size_of::<ShmEvent>();

pub(crate) use super::once_lock::{MADE, MADE_AT};
pub(crate) use super::published::{SLOTS as VERSION_SLOTS, VERSION_AT};

/// Reads a mutex. The holder's process id is 0 if it is unknown.
pub(crate) fn mutex(bytes: [u8; MUTEX_LEN]) -> MutexState<Holder> {
    // SAFETY: any bytes are valid for a RawMutex (invariant 6 of `robust_lock`). The
    // copy is only read, and never locked.
    let copy = unsafe { std::mem::transmute::<[u8; MUTEX_LEN], RawMutex>(bytes) };
    copy.mutex_state()
}

/// Reads a condition variable.
pub(crate) fn condvar(bytes: [u8; CONDVAR_LEN]) -> CondvarState {
    // SAFETY: a ShmCondvar is atomic words, for which any bytes are valid.
    let copy = unsafe { std::mem::transmute::<[u8; CONDVAR_LEN], ShmCondvar>(bytes) };
    copy.state()
}

/// Reads a seat. The occupant's process id is 0 if it is unknown.
pub(crate) fn seat(bytes: [u8; SEAT_LEN]) -> SeatState<Holder> {
    // SAFETY: any bytes are valid for a Seat, as for its lock (invariant 6 of
    // `robust_lock`). The copy is only read, and never taken.
    let copy = unsafe { std::mem::transmute::<[u8; SEAT_LEN], Seat>(bytes) };
    copy.state()
}

/// Reads an event.
pub(crate) fn event(bytes: [u8; EVENT_LEN]) -> EventState {
    // SAFETY: a ShmEvent consists of atomic words, for which any bytes are valid.
    let copy = unsafe { std::mem::transmute::<[u8; EVENT_LEN], ShmEvent>(bytes) };
    copy.state()
}

/// Clears the poison of the mutex at `at` if its cause is `expected`. Returns the
/// actual cause if not. Neither reads nor writes the lock word.
///
/// # Safety
///
/// * All bytes of a mutex at `at` stay mapped, readable and writable during the call.
/// * `at` is aligned to 8 bytes.
/// * Every concurrent access to these bytes is atomic, as this crate's are.
pub(crate) unsafe fn clear_poison(
    at: NonNull<u8>,
    expected: PoisonCause,
) -> Result<(), Option<PoisonCause>> {
    // SAFETY: mapped, aligned and accessed atomically, as the caller promises. Any
    // bytes are valid for a RawMutex.
    let mutex = unsafe { at.cast::<RawMutex>().as_ref() };
    mutex.poison().clear_if(expected)
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::{LockState, Waiters};
    use super::*;
    use crate::robust::LOCK_WORD_OFFSET;
    use crate::sync::ShmMutex;
    use proptest::prelude::*;

    #[test]
    fn smoke() {
        let state = mutex([0; MUTEX_LEN]);
        assert_eq!((state.lock, state.poison), (LockState::Free, None));
        let state = condvar([0; CONDVAR_LEN]);
        assert_eq!((state.notifications, state.waiters), (0, 0));
    }

    /// Reads a mutex that is zero but for these words: offset and value.
    fn with(words: &[(usize, u32)]) -> MutexState<Holder> {
        let mut bytes = [0; MUTEX_LEN];
        for (at, word) in words {
            bytes[*at..*at + 4].copy_from_slice(&word.to_ne_bytes());
        }
        mutex(bytes)
    }

    #[test]
    fn lock_word_determines_lock_state() {
        let with_word = |word| with(&[(LOCK_WORD_OFFSET, word)]);
        let held = LockState::Held(Holder { pid: 0, tid: 77 });
        assert_eq!(with_word(77).lock, held);
        assert_eq!(with_word(77).waiters, Waiters::NoneSeen);
        assert_eq!(with_word(1 << 31 | 77).waiters, Waiters::Some);
        assert_eq!(with_word(1 << 30).lock, LockState::OwnerDied);
        let unrecoverable = if cfg!(target_env = "musl") {
            (LOCK_WORD_OFFSET, i32::MAX as u32)
        } else {
            (8, i32::MAX as u32 - 1)
        };
        assert_eq!(with(&[unrecoverable]).lock, LockState::NotRecoverable);
    }

    #[test]
    fn new_mutex_is_not_placed() {
        let lock = ShmMutex::new(0_u8);
        // SAFETY: a ShmMutex begins with a RawMutex of this size, and no thread writes
        // to it.
        let bytes = unsafe { (&raw const lock).cast::<[u8; MUTEX_LEN]>().read() };
        assert_eq!(mutex(bytes).lock, LockState::NotPlaced);
    }

    #[test]
    fn clear_poison_requires_expected_cause() {
        let seen = PoisonCause::OwnerDied { pid: 7, tid: 8 };
        let later = PoisonCause::Panicked { pid: 7, tid: 8 };
        let mut bytes = [0_u64; MUTEX_LEN / 8];
        let at = NonNull::from(&mut bytes).cast::<u8>();
        // SAFETY: the bytes are this test's own: mapped, aligned, not used
        // concurrently.
        assert_eq!(unsafe { clear_poison(at, seen) }, Err(None));
        let poison = 1 << 60 | 7 << 30 | 8;
        bytes[MUTEX_LEN / 8 - 2] = poison; // the last word but one: see docs/format.md
        let at = NonNull::from(&mut bytes).cast::<u8>();
        // SAFETY: the bytes are this test's own: mapped, aligned, not used
        // concurrently.
        assert_eq!(unsafe { clear_poison(at, later) }, Err(Some(seen)));
        // SAFETY: the bytes are this test's own: mapped, aligned, not used
        // concurrently.
        assert_eq!(unsafe { clear_poison(at, seen) }, Ok(()));
        assert_eq!(bytes, [0; MUTEX_LEN / 8]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_readable(
            bytes in proptest::collection::vec(any::<u8>(), MUTEX_LEN),
            condition in any::<[u8; CONDVAR_LEN]>(),
            occupied in proptest::collection::vec(any::<u8>(), SEAT_LEN),
            signal in any::<[u8; EVENT_LEN]>(),
        ) {
            let _ = seat(occupied.try_into().unwrap());
            let _ = event(signal);
            let _ = mutex(bytes.try_into().unwrap());
            let _ = condvar(condition);
        }
    }
}
