//! A pair of POSIX semaphores, one for the turn of each side. They are cheaper than a
//! lock with a condition variable, and can express less.

use std::cell::UnsafeCell;

use super::monitor::HandOver;
use crate::contestants::Scope;
use crate::failure::Failure;
use crate::series::Survives;
use crate::shared::{Shared, Zeroed};

/// A `sem_t` in shared memory.
#[repr(transparent)]
pub(crate) struct Semaphore(UnsafeCell<libc::sem_t>);

// SAFETY: threads may share a semaphore.
unsafe impl Sync for Semaphore {}
// SAFETY: `sem_init` accepts any bytes, and zeros refer to no process.
unsafe impl Zeroed for Semaphore {}

impl Semaphore {
    fn init(&self, value: u32) -> Result<(), Failure> {
        // SAFETY: no thread uses the semaphore yet, and it is not moved.
        match unsafe { libc::sem_init(self.0.get(), 1, value) } {
            0 => Ok(()),
            _ => Err(Failure::last_os("sem_init")),
        }
    }

    fn wait(&self) -> Result<(), Failure> {
        // SAFETY: `Semaphores::create` has initialised the semaphore.
        match unsafe { libc::sem_wait(self.0.get()) } {
            0 => Ok(()),
            _ => Err(Failure::last_os("sem_wait")),
        }
    }

    fn post(&self) -> Result<(), Failure> {
        // SAFETY: `Semaphores::create` has initialised the semaphore.
        match unsafe { libc::sem_post(self.0.get()) } {
            0 => Ok(()),
            _ => Err(Failure::last_os("sem_post")),
        }
    }
}

/// A semaphore for each side.
pub(crate) struct Semaphores {
    turns: Shared<[Semaphore; 2]>,
}

impl HandOver for Semaphores {
    const NAME: &'static str = "pair of semaphores";
    // The semaphores do not report the death of the side that has the turn.
    const SURVIVES: Survives = Survives::Nothing;
    const SCOPE: Scope = Scope::Processes;

    fn create() -> Result<Self, Failure> {
        let turns = Shared::<[Semaphore; 2]>::zeroed()?;
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
