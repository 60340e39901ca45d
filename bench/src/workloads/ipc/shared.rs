//! Shared memory with this crate's locks: in each direction a ring of slots, each a
//! `ShmMutex` around the bytes with a `ShmCondvar`. The sender copies in, the receiver
//! copies out, under the lock of the slot. What is longer than a slot goes in pieces, so
//! that one side copies out while the other copies in.

use std::cell::Cell;

use shm_sync::{Error, Segment, ShmCondvar, ShmMutex, ShmSafe};

use super::way::{Side, Way};
use crate::failure::Failure;
use crate::report::Survives;

/// The bytes of a ring, about: it should stay in a processor's own cache.
const RING: usize = 256 << 10;

/// What a slot holds.
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

/// Two rings, with slots of `LEN` bytes.
pub(super) struct Rings<const LEN: usize> {
    from: [Ring<LEN>; 2],
}

struct Ring<const LEN: usize> {
    slots: Segment<[Slot<LEN>]>,
    /// The next one that this process fills or empties.
    next: Cell<usize>,
}

impl<const LEN: usize> Way for Rings<LEN> {
    const NAME: &'static str = "shm-sync";
    const SURVIVES: Survives = Survives::Kills;

    fn make(_: usize) -> Result<Self, Failure> {
        Ok(Self {
            from: [Ring::make()?, Ring::make()?],
        })
    }

    fn send(&self, side: Side, message: &[u8]) -> Result<(), Failure> {
        let ring = &self.from[side.index()];
        message
            .chunks(LEN)
            .try_for_each(|bytes| Ok(ring.put(bytes)?))
    }

    fn receive(&self, side: Side, message: &mut [u8]) -> Result<(), Failure> {
        let ring = &self.from[side.other().index()];
        message
            .chunks_mut(LEN)
            .try_for_each(|bytes| Ok(ring.take(bytes)?))
    }
}

impl<const LEN: usize> Ring<LEN> {
    fn make() -> Result<Self, Error> {
        let len = (RING / LEN).clamp(4, 64);
        let options = Segment::<[Slot<LEN>]>::options();
        Ok(Self {
            slots: options.anonymous_with_len("ring", len, |_| {})?,
            next: Cell::new(0),
        })
    }

    /// The slot whose turn it is.
    fn advance(&self) -> &Slot<LEN> {
        let index = self.next.get();
        self.next.set((index + 1) % self.slots.len());
        &self.slots[index]
    }

    fn put(&self, bytes: &[u8]) -> Result<(), Error> {
        let slot = self.advance();
        let mut piece = slot
            .changed
            .wait_while(slot.piece.lock()?, |piece| piece.full)?;
        piece.bytes[..bytes.len()].copy_from_slice(bytes);
        piece.full = true;
        slot.changed.notify_one();
        Ok(())
    }

    fn take(&self, bytes: &mut [u8]) -> Result<(), Error> {
        let slot = self.advance();
        let mut piece = slot
            .changed
            .wait_while(slot.piece.lock()?, |piece| !piece.full)?;
        bytes.copy_from_slice(&piece.bytes[..bytes.len()]);
        piece.full = false;
        slot.changed.notify_one();
        Ok(())
    }
}
