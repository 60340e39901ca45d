//! A seat for which threads queue, as for a mutex, and that a guard leaves.

use super::robust_lock::RawLockError;
use super::seat::{Seat, SeatToken};
use crate::error::LockError;
use crate::robust::Blocking;

/// The turn of this thread. The drop leaves the seat, also when a panic unwinds, and
/// lets the next thread in.
pub(super) struct Turn<'a> {
    seat: &'a Seat,
    token: SeatToken,
}

impl<'a> Turn<'a> {
    /// Takes the seat. `blocking` says how long to wait for it.
    #[inline]
    pub(super) fn take(seat: &'a Seat, blocking: Blocking) -> Result<Self, RawLockError> {
        let token = seat.take(blocking)?;
        Ok(Self { seat, token })
    }

    /// Takes the turn for a call that may wait while it has it. A call that does not
    /// wait takes none, because it would look like a thread that waits. It fails while
    /// another thread has the turn.
    pub(super) fn take_to_wait(
        seat: &'a Seat,
        blocking: Blocking,
    ) -> Result<Option<Self>, RawLockError> {
        match blocking {
            Blocking::Try if seat.is_occupied() => Err(LockError::WouldBlock),
            Blocking::Try => Ok(None),
            Blocking::Wait | Blocking::WaitUntil(_) => Self::take(seat, blocking).map(Some),
        }
    }

    /// Returns whether this thread still has its turn. A child that user code has
    /// forked meanwhile has not.
    pub(super) fn is_mine(&self) -> bool {
        self.seat.is_held(self.token)
    }
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.seat.leave(self.token);
    }
}
