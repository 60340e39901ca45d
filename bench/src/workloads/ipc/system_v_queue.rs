//! A System V message queue, with a message type for each direction. Messages above the
//! limit of the system are sent in pieces. Each piece is copied once more than in other
//! channels, because its type must be directly before it.

use std::cell::RefCell;
use std::ffi::{c_int, c_long};
use std::ptr;

use super::channel::{Channel, Side, limit};
use crate::failure::Failure;
use crate::series::Survives;

/// The longest piece, even if the limit of the system is higher.
const PIECE_MAX: usize = 8 << 10;

/// A message in the layout of `msgsnd`.
#[repr(C)]
struct Message {
    kind: c_long,
    text: [u8; PIECE_MAX],
}

/// A queue. `drop` removes it. Forked workers exit without destructors.
pub(super) struct SystemVQueue {
    id: c_int,
    /// The length of a piece.
    piece: usize,
    /// The buffer for a piece.
    buffer: RefCell<Message>,
}

impl Channel for SystemVQueue {
    const NAME: &'static str = "System V message queue";
    const SURVIVES: Survives = Survives::DoesNotApply;

    fn create(len: usize) -> Result<Self, Failure> {
        let piece = len.min(limit("/proc/sys/kernel/msgmax")?).min(PIECE_MAX);
        // SAFETY: the call takes numbers and no memory.
        let id = unsafe { libc::msgget(libc::IPC_PRIVATE, 0o600) };
        if id == -1 {
            return Err(Failure::last_os("msgget"));
        }
        Ok(Self {
            id,
            piece,
            buffer: RefCell::new(Message {
                kind: 0,
                text: [0; PIECE_MAX],
            }),
        })
    }

    fn send(&self, side: Side, message: &[u8]) -> Result<(), Failure> {
        let mut buffer = self.buffer.borrow_mut();
        buffer.kind = kind(side);
        for piece in message.chunks(self.piece) {
            buffer.text[..piece.len()].copy_from_slice(piece);
            let message: *const Message = &raw const *buffer;
            // SAFETY: the buffer holds a type and at least `piece.len()` bytes.
            let sent = unsafe { libc::msgsnd(self.id, message.cast(), piece.len(), 0) };
            if sent == -1 {
                return Err(Failure::last_os("msgsnd"));
            }
        }
        Ok(())
    }

    fn receive(&self, side: Side, message: &mut [u8]) -> Result<(), Failure> {
        let mut buffer = self.buffer.borrow_mut();
        for piece in message.chunks_mut(self.piece) {
            let message: *mut Message = &raw mut *buffer;
            // SAFETY: the buffer has space for a type and `piece.len()` bytes.
            let len = unsafe {
                libc::msgrcv(self.id, message.cast(), piece.len(), kind(side.other()), 0)
            };
            if len == -1 {
                return Err(Failure::last_os("msgrcv"));
            }
            piece.copy_from_slice(&buffer.text[..piece.len()]);
        }
        Ok(())
    }
}

impl Drop for SystemVQueue {
    fn drop(&mut self) {
        // SAFETY: `IPC_RMID` does not use the pointer.
        unsafe { libc::msgctl(self.id, libc::IPC_RMID, ptr::null_mut()) };
    }
}

/// Returns the type of the messages of a side. Types are above zero.
fn kind(side: Side) -> c_long {
    match side {
        Side::Left => 1,
        Side::Right => 2,
    }
}
