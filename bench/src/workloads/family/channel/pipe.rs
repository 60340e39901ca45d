//! A pipe of the kernel, with the largest size that an unprivileged process may choose.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::api::{Channel, Receiver, Sender};
use crate::contestants::Scope;
use crate::failure::Failure;
use crate::series::Survives;
use crate::workloads::ipc::{large_pipe, read_all, write_all};

/// A pipe.
pub(super) struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

/// The end that writes.
pub(super) struct Writer<'a>(BorrowedFd<'a>);

/// The end that reads.
pub(super) struct Reader<'a>(BorrowedFd<'a>);

impl<const LEN: usize> Channel<LEN> for Pipe {
    const NAME: &'static str = "pipe";
    const SURVIVES: Survives = Survives::Kills;
    const SCOPE: Scope = Scope::Processes;

    type Sender<'a> = Writer<'a>;
    type Receiver<'a> = Reader<'a>;

    fn create() -> Result<Self, Failure> {
        let (reader, writer) = large_pipe()?;
        Ok(Self { reader, writer })
    }

    fn sender(&self) -> Result<Writer<'_>, Failure> {
        Ok(Writer(self.writer.as_fd()))
    }

    fn receiver(&self) -> Result<Reader<'_>, Failure> {
        Ok(Reader(self.reader.as_fd()))
    }
}

impl<const LEN: usize> Sender<LEN> for Writer<'_> {
    fn send(&mut self, message: &[u8; LEN]) -> Result<(), Failure> {
        write_all(self.0, message)
    }
}

impl<const LEN: usize> Receiver<LEN> for Reader<'_> {
    fn receive(&mut self, message: &mut [u8; LEN]) -> Result<(), Failure> {
        read_all(self.0, message)
    }
}
