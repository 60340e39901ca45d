//! A number in shared memory that says whose turn it is, and `usleep(1000)` until it is
//! one's own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::Turns;
use crate::contestants::{PAUSE, POLLING, Scope};
use crate::failure::Failure;
use crate::report::Survives;
use crate::shared::Shared;

/// Counted up by whoever has the turn.
pub(crate) struct PolledTurn {
    turn: Shared<AtomicU32>,
}

impl Turns for PolledTurn {
    const NAME: &'static str = POLLING;
    const SURVIVES: Survives = Survives::Nothing;
    const SCOPE: Scope = Scope::Processes;

    fn make() -> Result<Self, Failure> {
        Ok(Self {
            turn: Shared::zeroed()?,
        })
    }

    fn take(&self, side: usize) -> Result<(), Failure> {
        // Acquire and release: what one does with the turn is seen by the other.
        while self.turn.load(Ordering::Acquire) as usize % 2 != side {
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn give(&self, _side: usize) -> Result<(), Failure> {
        self.turn.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn take_and_give(&self, side: usize) -> Result<(), Failure> {
        self.take(side)?;
        self.give(side)
    }
}
