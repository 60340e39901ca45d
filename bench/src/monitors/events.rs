//! A pair of `ShmEvent`s that reset themselves, one for the turn of each side.

use shm_sync::{Segment, ShmEvent};

use super::monitor::HandOver;
use crate::contestants::Scope;
use crate::failure::Failure;
use crate::series::Survives;

/// An event for each side.
pub(crate) struct Events {
    turns: Segment<[ShmEvent; 2]>,
}

impl HandOver for Events {
    const NAME: &'static str = "shm-sync ShmEvent";
    // The events do not report the death of the side that has the turn.
    const SURVIVES: Survives = Survives::Nothing;
    const SCOPE: Scope = Scope::Processes;

    fn create() -> Result<Self, Failure> {
        let turns = Segment::anonymous([const { ShmEvent::auto_reset() }; 2])?;
        turns[0].set()?;
        Ok(Self { turns })
    }

    fn wait_for_turn(&self, side: usize) -> Result<(), Failure> {
        Ok(self.turns[side].wait()?)
    }

    fn pass_turn(&self, side: usize) -> Result<(), Failure> {
        Ok(self.turns[1 - side].set()?)
    }

    fn wait_and_pass(&self, side: usize) -> Result<(), Failure> {
        self.wait_for_turn(side)?;
        self.pass_turn(side)
    }
}
