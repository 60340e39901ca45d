//! A pair of pipes, one for the turn of each side: a turn is a byte.

use std::io::{PipeReader, PipeWriter, Read, Write, pipe};

use super::monitor::HandOver;
use crate::contestants::Scope;
use crate::failure::Failure;
use crate::series::Survives;

/// A pipe for each side.
pub(crate) struct Pipes {
    turns: [(PipeReader, PipeWriter); 2],
}

impl HandOver for Pipes {
    const NAME: &'static str = "pair of pipes";
    // Each side has both ends of both pipes, so a side that waits does not learn of the
    // death of the other.
    const SURVIVES: Survives = Survives::Nothing;
    const SCOPE: Scope = Scope::Processes;

    fn create() -> Result<Self, Failure> {
        let pipe = || pipe().map_err(Failure::os("pipe"));
        let pipes = Self {
            turns: [pipe()?, pipe()?],
        };
        pipes.pass_turn(1)?;
        Ok(pipes)
    }

    fn wait_for_turn(&self, side: usize) -> Result<(), Failure> {
        let mut reader = &self.turns[side].0;
        reader.read_exact(&mut [0]).map_err(Failure::os("read"))
    }

    fn pass_turn(&self, side: usize) -> Result<(), Failure> {
        let mut writer = &self.turns[1 - side].1;
        writer.write_all(&[0]).map_err(Failure::os("write"))
    }

    fn wait_and_pass(&self, side: usize) -> Result<(), Failure> {
        self.wait_for_turn(side)?;
        self.pass_turn(side)
    }
}
