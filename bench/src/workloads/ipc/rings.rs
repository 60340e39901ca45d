//! Shared memory with the locks of shm-sync: a ring of slots in each direction. A slot
//! has a `ShmMutex` that guards the bytes, and a `ShmCondvar`. The sender copies in and
//! the receiver copies out, each under the lock of the slot. Messages that are longer
//! than a slot are sent in pieces, so that both sides copy at the same time.

use std::cell::Cell;

use shm_sync::{Error, Segment, ShmCondvar, ShmMutex, ShmSafe};

use super::channel::{Channel, Side};
use crate::failure::Failure;
use crate::series::Survives;

/// The approximate size of a ring in bytes. It fits into the private cache of a
/// processor.
const RING_LEN: usize = 256 << 10;

/// The contents of a slot.
#[derive(ShmSafe)]
#[repr(C)]
struct Piece<const LEN: usize> {
    full: bool,
    bytes: [u8; LEN],
}

#[derive(ShmSafe)]
#[repr(C, align(64))]
struct Slot<const LEN: usize> {
    piece: ShmMutex<Piece<LEN>>,
    changed: ShmCondvar,
}

/// Two rings with slots of `LEN` bytes.
pub(super) struct Rings<const LEN: usize> {
    from: [Ring<LEN>; 2],
}

struct Ring<const LEN: usize> {
    slots: Segment<[Slot<LEN>]>,
    /// The next slot that this process fills or empties.
    next: Cell<usize>,
}

impl<const LEN: usize> Channel for Rings<LEN> {
    const NAME: &'static str = "shm-sync";
    const SURVIVES: Survives = Survives::Kills;

    fn create(_: usize) -> Result<Self, Failure> {
        Ok(Self {
            from: [Ring::create()?, Ring::create()?],
        })
    }

    fn send(&self, side: Side, message: &[u8]) -> Result<(), Failure> {
        let ring = &self.from[side.index()];
        message
            .chunks(LEN)
            .try_for_each(|bytes| Ok(ring.push(bytes)?))
    }

    fn receive(&self, side: Side, message: &mut [u8]) -> Result<(), Failure> {
        let ring = &self.from[side.other().index()];
        message
            .chunks_mut(LEN)
            .try_for_each(|bytes| Ok(ring.pop(bytes)?))
    }
}

impl<const LEN: usize> Ring<LEN> {
    fn create() -> Result<Self, Error> {
        let len = (RING_LEN / LEN).clamp(4, 64);
        let options = Segment::<[Slot<LEN>]>::options();
        Ok(Self {
            slots: options.anonymous_with_len("ring", len, |_| {})?,
            next: Cell::new(0),
        })
    }

    /// Returns the next slot.
    fn next_slot(&self) -> &Slot<LEN> {
        let index = self.next.get();
        self.next.set((index + 1) % self.slots.len());
        &self.slots[index]
    }

    fn push(&self, bytes: &[u8]) -> Result<(), Error> {
        let slot = self.next_slot();
        let mut piece = slot
            .changed
            .wait_while(slot.piece.lock()?, |piece| piece.full)?;
        piece.bytes[..bytes.len()].copy_from_slice(bytes);
        piece.full = true;
        slot.changed.notify_one();
        Ok(())
    }

    fn pop(&self, bytes: &mut [u8]) -> Result<(), Error> {
        let slot = self.next_slot();
        let mut piece = slot
            .changed
            .wait_while(slot.piece.lock()?, |piece| !piece.full)?;
        bytes.copy_from_slice(&piece.bytes[..bytes.len()]);
        piece.full = false;
        slot.changed.notify_one();
        Ok(())
    }
}
