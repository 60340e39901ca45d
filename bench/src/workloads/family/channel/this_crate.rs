//! `ShmChannel` and `ShmPipe`.

use std::io::{Read, Write};
use std::slice;

use shm_sync::{Error, PipeReader, PipeWriter, Segment, ShmChannel, ShmPipe};

use super::api::{CAPACITY, Channel, Receiver, Sender};
use crate::contestants::Scope;
use crate::failure::Failure;
use crate::series::{SHM_SYNC, Survives};

/// The default number of seats of each side.
pub(super) const SEATS: usize = 16;

/// The longest message that is sent and received as a value. A longer one would be
/// copied more often than necessary.
const SMALL: usize = 64;

/// A `ShmChannel` with `ENDS` seats on each side.
pub(super) struct Own<const LEN: usize, const ENDS: usize>(
    Segment<ShmChannel<[u8; LEN], CAPACITY, ENDS, ENDS>>,
);

impl<const LEN: usize, const ENDS: usize> Own<LEN, ENDS> {
    const LABEL: &str = if ENDS == 1 {
        "shm-sync 1 to 1"
    } else {
        SHM_SYNC
    };
}

impl<const LEN: usize, const ENDS: usize> Channel<LEN> for Own<LEN, ENDS> {
    const NAME: &'static str = Self::LABEL;
    const SURVIVES: Survives = Survives::Kills;
    const SCOPE: Scope = Scope::Processes;

    type Sender<'a> = shm_sync::Sender<'a, [u8; LEN], CAPACITY, ENDS, ENDS>;
    type Receiver<'a> = shm_sync::Receiver<'a, [u8; LEN], CAPACITY, ENDS, ENDS>;

    fn create() -> Result<Self, Failure> {
        Ok(Self(Segment::anonymous(ShmChannel::new())?))
    }

    fn sender(&self) -> Result<Self::Sender<'_>, Failure> {
        Ok(self.0.sender()?)
    }

    fn receiver(&self) -> Result<Self::Receiver<'_>, Failure> {
        Ok(self.0.receiver()?)
    }
}

impl<const LEN: usize, const ENDS: usize> Sender<LEN>
    for shm_sync::Sender<'_, [u8; LEN], CAPACITY, ENDS, ENDS>
{
    #[inline]
    fn send(&mut self, message: &[u8; LEN]) -> Result<(), Failure> {
        if LEN <= SMALL {
            return Ok(shm_sync::Sender::send(self, *message).map_err(Error::from)?);
        }
        // It sends the one message, or fails.
        self.send_slice(slice::from_ref(message))
            .map_err(Error::from)?;
        Ok(())
    }
}

impl<const LEN: usize, const ENDS: usize> Receiver<LEN>
    for shm_sync::Receiver<'_, [u8; LEN], CAPACITY, ENDS, ENDS>
{
    #[inline]
    fn receive(&mut self, message: &mut [u8; LEN]) -> Result<(), Failure> {
        if LEN <= SMALL {
            *message = self.recv().map_err(Error::from)?;
            return Ok(());
        }
        // It receives one message, or fails.
        self.recv_slice(slice::from_mut(message))
            .map_err(Error::from)?;
        Ok(())
    }
}

/// The bytes in a `ShmPipe`. A round is too short for more of them: the pages are new.
const PIPE: usize = 256 << 10;

/// A `ShmPipe`.
pub(super) struct OwnPipe(Segment<ShmPipe<PIPE>>);

impl<const LEN: usize> Channel<LEN> for OwnPipe {
    const NAME: &'static str = SHM_SYNC;
    const SURVIVES: Survives = Survives::Kills;
    const SCOPE: Scope = Scope::Processes;

    type Sender<'a> = PipeWriter<'a, PIPE>;
    type Receiver<'a> = PipeReader<'a, PIPE>;

    fn create() -> Result<Self, Failure> {
        Ok(Self(Segment::anonymous(ShmPipe::new())?))
    }

    fn sender(&self) -> Result<Self::Sender<'_>, Failure> {
        Ok(self.0.writer()?)
    }

    fn receiver(&self) -> Result<Self::Receiver<'_>, Failure> {
        Ok(self.0.reader()?)
    }
}

impl<const LEN: usize> Sender<LEN> for PipeWriter<'_, PIPE> {
    fn send(&mut self, message: &[u8; LEN]) -> Result<(), Failure> {
        self.write_all(message).map_err(Failure::os("write"))
    }
}

impl<const LEN: usize> Receiver<LEN> for PipeReader<'_, PIPE> {
    fn receive(&mut self, message: &mut [u8; LEN]) -> Result<(), Failure> {
        self.read_exact(message).map_err(Failure::os("read"))
    }
}
