//! What the ways between two processes have in common.

use std::fs;

use crate::failure::Failure;
use crate::report::Survives;

/// Which of the two processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Sends first.
    Left,
    /// Receives first.
    Right,
}

impl Side {
    /// The side of a worker.
    pub(super) fn of(worker: usize) -> Self {
        if worker == 0 { Self::Left } else { Self::Right }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    /// 0 or 1: for what each side has one of.
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// A way for messages between two processes, in both directions. It is made before
/// they are forked, and used by both.
pub(super) trait Way: Sized {
    const NAME: &'static str;
    /// Whether a receiver gets on, or learns of it, when the sender is killed.
    const SURVIVES: Survives;

    /// Makes one for messages of `len` bytes.
    fn make(len: usize) -> Result<Self, Failure>;

    /// What each process does first.
    fn enter(&self, _side: Side) -> Result<(), Failure> {
        Ok(())
    }

    /// Sends a message of the length that was agreed on, as `side`.
    fn send(&self, side: Side, message: &[u8]) -> Result<(), Failure>;

    /// Receives one, as `side`.
    fn receive(&self, side: Side, message: &mut [u8]) -> Result<(), Failure>;
}

/// A way that did not deliver what was sent.
pub(super) fn wrong(contestant: &'static str, what: impl Into<String>) -> Failure {
    Failure::Wrong {
        contestant,
        what: what.into(),
    }
}

/// One of the system's limits, from the file `path` of `/proc`.
pub(super) fn limit(path: &str) -> Result<usize, Failure> {
    let text =
        fs::read_to_string(path).map_err(|error| Failure::NotHere(format!("{path}: {error}")))?;
    text.trim()
        .parse()
        .map_err(|error| Failure::NotHere(format!("{path}: {error}")))
}
