//! A pair of POSIX semaphores, one for the turn of each side. They are cheaper than a
//! lock with a condition variable, and can express less.

use super::monitor::HandOver;
use crate::contestants::Scope;
use crate::failure::Failure;
use crate::semaphores::PosixSemaphore;
use crate::series::Survives;
use crate::shared::Shared;

/// A semaphore for each side.
pub(crate) struct Semaphores {
    turns: Shared<[PosixSemaphore; 2]>,
}

impl HandOver for Semaphores {
    const NAME: &'static str = "pair of semaphores";
    // The semaphores do not report the death of the side that has the turn.
    const SURVIVES: Survives = Survives::Nothing;
    const SCOPE: Scope = Scope::Processes;

    fn create() -> Result<Self, Failure> {
        let turns = Shared::<[PosixSemaphore; 2]>::zeroed()?;
        turns[0].init(1)?;
        turns[1].init(0)?;
        Ok(Self { turns })
    }

    fn wait_for_turn(&self, side: usize) -> Result<(), Failure> {
        self.turns[side].wait()
    }

    fn pass_turn(&self, side: usize) -> Result<(), Failure> {
        self.turns[1 - side].post()
    }

    fn wait_and_pass(&self, side: usize) -> Result<(), Failure> {
        self.wait_for_turn(side)?;
        self.pass_turn(side)
    }
}
