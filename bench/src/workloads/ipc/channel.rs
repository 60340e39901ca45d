//! The trait of all channels.

use std::fs;

use crate::failure::Failure;
use crate::series::Survives;

/// One of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Sends first.
    Left,
    /// Receives first.
    Right,
}

impl Side {
    /// Returns the side of a worker.
    pub(super) fn from_worker(worker: usize) -> Self {
        if worker == 0 { Self::Left } else { Self::Right }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    /// Returns 0 or 1, as an index into arrays with an element for each side.
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// A channel for messages between two processes, in both directions. It is created
/// before both are forked.
pub(super) trait Channel: Sized {
    const NAME: &'static str;
    /// Kills of a sender after which the receiver can continue or gets an error.
    const SURVIVES: Survives;

    /// Creates a channel for messages of `len` bytes.
    fn create(len: usize) -> Result<Self, Failure>;

    /// Prepares a process for its side.
    fn prepare(&self, _side: Side) -> Result<(), Failure> {
        Ok(())
    }

    /// Sends a message of the length that was passed to `create`.
    fn send(&self, side: Side, message: &[u8]) -> Result<(), Failure>;

    /// Receives a message of that length.
    fn receive(&self, side: Side, message: &mut [u8]) -> Result<(), Failure>;
}

/// Returns the failure of a channel that did not deliver what was sent.
pub(super) fn wrong_result(contestant: &'static str, what: impl Into<String>) -> Failure {
    Failure::WrongResult {
        contestant,
        what: what.into(),
    }
}

/// Reads a limit of the system from a file in `/proc`.
pub(super) fn limit(path: &str) -> Result<usize, Failure> {
    let text = fs::read_to_string(path)
        .map_err(|error| Failure::Unavailable(format!("{path}: {error}")))?;
    text.trim()
        .parse()
        .map_err(|error| Failure::Unavailable(format!("{path}: {error}")))
}
