//! A System V message queue, with a type of message for each direction. What is longer
//! than the system allows a message to be is sent in pieces. Each piece is copied once
//! more than elsewhere, because its type must stand directly before it.

use std::cell::RefCell;
use std::ffi::{c_int, c_long};
use std::ptr;

use super::way::{Side, Way, limit};
use crate::failure::Failure;
use crate::report::Survives;

/// The longest piece there is room for; where the system's limit is higher, that
/// is not made use of.
const ROOM: usize = 8 << 10;

/// A message as the system wants it.
#[repr(C)]
struct Message {
    kind: c_long,
    text: [u8; ROOM],
}

/// A queue, which is removed when this is dropped: forked workers don't drop it.
pub(super) struct SystemVQueue {
    id: c_int,
    /// The length of a piece.
    piece: usize,
    /// What goes out or comes in.
    message: RefCell<Message>,
}

impl Way for SystemVQueue {
    const NAME: &'static str = "System V message queue";
    const SURVIVES: Survives = Survives::DoesNotApply;

    fn make(len: usize) -> Result<Self, Failure> {
        let piece = len.min(limit("/proc/sys/kernel/msgmax")?).min(ROOM);
        // SAFETY: takes numbers.
        let id = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
        if id == -1 {
            return Err(Failure::last("msgget"));
        }
        Ok(Self {
            id,
            piece,
            message: RefCell::new(Message {
                kind: 0,
                text: [0; ROOM],
            }),
        })
    }

    fn send(&self, side: Side, message: &[u8]) -> Result<(), Failure> {
        let mut room = self.message.borrow_mut();
        room.kind = kind(side);
        for piece in message.chunks(self.piece) {
            room.text[..piece.len()].copy_from_slice(piece);
            let message: *const Message = &raw const *room;
            // SAFETY: a type and at least so many bytes lie there.
            let sent = unsafe { libc::msgsnd(self.id, message.cast(), piece.len(), 0) };
            if sent == -1 {
                return Err(Failure::last("msgsnd"));
            }
        }
        Ok(())
    }

    fn receive(&self, side: Side, message: &mut [u8]) -> Result<(), Failure> {
        let mut room = self.message.borrow_mut();
        for piece in message.chunks_mut(self.piece) {
            let message: *mut Message = &raw mut *room;
            // SAFETY: there is room for a type and so many bytes.
            let len = unsafe {
                libc::msgrcv(self.id, message.cast(), piece.len(), kind(side.other()), 0)
            };
            if len == -1 {
                return Err(Failure::last("msgrcv"));
            }
            piece.copy_from_slice(&room.text[..piece.len()]);
        }
        Ok(())
    }
}

impl Drop for SystemVQueue {
    fn drop(&mut self) {
        // SAFETY: nothing is read or written by this command.
        unsafe { libc::msgctl(self.id, libc::IPC_RMID, ptr::null_mut()) };
    }
}

/// The type of the messages that a side sends; must be above zero.
fn kind(side: Side) -> c_long {
    match side {
        Side::Left => 1,
        Side::Right => 2,
    }
}
