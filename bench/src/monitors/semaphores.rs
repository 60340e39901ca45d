//! A pair of POSIX semaphores, one for each side's turn: no lock and no condition, so
//! less can be said with them, and more cheaply.

use std::cell::UnsafeCell;

use super::Turns;
use crate::contestants::Scope;
use crate::failure::Failure;
use crate::report::Survives;
use crate::shared::{Shared, Zeroed};

/// A `sem_t`.
#[repr(transparent)]
pub(crate) struct Semaphore(UnsafeCell<libc::sem_t>);

// SAFETY: it is made to be used by many.
unsafe impl Sync for Semaphore {}
// SAFETY: it may have any bytes before it is initialised.
unsafe impl Zeroed for Semaphore {}

impl Semaphore {
    fn init(&self, value: u32) -> Result<(), Failure> {
        // SAFETY: nobody uses it yet, and it stays where it is.
        match unsafe { libc::sem_init(self.0.get(), 1, value) } {
            0 => Ok(()),
            _ => Err(Failure::last("sem_init")),
        }
    }

    fn wait(&self) -> Result<(), Failure> {
        // SAFETY: initialised.
        match unsafe { libc::sem_wait(self.0.get()) } {
            0 => Ok(()),
            _ => Err(Failure::last("sem_wait")),
        }
    }

    fn post(&self) -> Result<(), Failure> {
        // SAFETY: initialised.
        match unsafe { libc::sem_post(self.0.get()) } {
            0 => Ok(()),
            _ => Err(Failure::last("sem_post")),
        }
    }
}

/// One for each side.
pub(crate) struct Semaphores {
    turns: Shared<[Semaphore; 2]>,
}

impl Turns for Semaphores {
    const NAME: &'static str = "pair of semaphores";
    // Nobody learns that the one whose turn it is has died.
    const SURVIVES: Survives = Survives::Nothing;
    const SCOPE: Scope = Scope::Processes;

    fn make() -> Result<Self, Failure> {
        let turns = Shared::<[Semaphore; 2]>::zeroed()?;
        turns[0].init(1)?;
        turns[1].init(0)?;
        Ok(Self { turns })
    }

    fn take(&self, side: usize) -> Result<(), Failure> {
        self.turns[side].wait()
    }

    fn give(&self, side: usize) -> Result<(), Failure> {
        self.turns[1 - side].post()
    }

    fn take_and_give(&self, side: usize) -> Result<(), Failure> {
        self.take(side)?;
        self.give(side)
    }
}
