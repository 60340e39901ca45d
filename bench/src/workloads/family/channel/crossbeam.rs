//! `crossbeam-channel`, between threads, for comparison.

use crossbeam_channel as crossbeam;

use super::api::{CAPACITY, Channel, Receiver, Sender};
use crate::contestants::Scope;
use crate::failure::Failure;
use crate::series::Survives;

/// The name of this contestant.
pub(super) const CROSSBEAM: &str = "crossbeam (threads)";

/// A bounded channel.
pub(super) struct Crossbeam<const LEN: usize> {
    sender: crossbeam::Sender<[u8; LEN]>,
    receiver: crossbeam::Receiver<[u8; LEN]>,
}

impl<const LEN: usize> Channel<LEN> for Crossbeam<LEN> {
    const NAME: &'static str = CROSSBEAM;
    const SURVIVES: Survives = Survives::DoesNotApply;
    const SCOPE: Scope = Scope::Threads;

    type Sender<'a> = crossbeam::Sender<[u8; LEN]>;
    type Receiver<'a> = crossbeam::Receiver<[u8; LEN]>;

    fn create() -> Result<Self, Failure> {
        let (sender, receiver) = crossbeam::bounded(CAPACITY);
        Ok(Self { sender, receiver })
    }

    fn sender(&self) -> Result<Self::Sender<'_>, Failure> {
        Ok(self.sender.clone())
    }

    fn receiver(&self) -> Result<Self::Receiver<'_>, Failure> {
        Ok(self.receiver.clone())
    }
}

/// Returns the failure of a channel whose other end is closed.
fn closed<E>(_: E) -> Failure {
    Failure::WrongResult {
        contestant: CROSSBEAM,
        what: "the other end was closed".to_owned(),
    }
}

impl<const LEN: usize> Sender<LEN> for crossbeam::Sender<[u8; LEN]> {
    #[inline]
    fn send(&mut self, message: &[u8; LEN]) -> Result<(), Failure> {
        crossbeam::Sender::send(self, *message).map_err(closed)
    }
}

impl<const LEN: usize> Receiver<LEN> for crossbeam::Receiver<[u8; LEN]> {
    #[inline]
    fn receive(&mut self, message: &mut [u8; LEN]) -> Result<(), Failure> {
        *message = self.recv().map_err(closed)?;
        Ok(())
    }
}
