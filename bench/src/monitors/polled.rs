//! A number in shared memory that says whose turn it is, and `usleep(1000)` until it is
//! one's own, or no rest at all: nothing is faster than that.

use std::hint;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::Turns;
use crate::contestants::{PAUSE, POLLING, Scope};
use crate::failure::Failure;
use crate::report::Survives;
use crate::shared::Shared;

/// How a turn is waited for.
pub(crate) trait Poll {
    const NAME: &'static str;
    fn pause();
}

/// By sleeping.
pub(crate) struct Sleeping;

impl Poll for Sleeping {
    const NAME: &'static str = POLLING;

    fn pause() {
        thread::sleep(PAUSE);
    }
}

/// By looking again.
pub(crate) struct Spinning;

impl Poll for Spinning {
    const NAME: &'static str = "bare word, spinning";

    fn pause() {
        hint::spin_loop();
    }
}

/// Counted up by whoever has the turn.
pub(crate) struct PolledTurn<P> {
    turn: Shared<AtomicU32>,
    poll: PhantomData<fn(P)>,
}

impl<P: Poll> Turns for PolledTurn<P> {
    const NAME: &'static str = P::NAME;
    const SURVIVES: Survives = Survives::Nothing;
    const SCOPE: Scope = Scope::Processes;

    fn make() -> Result<Self, Failure> {
        Ok(Self {
            turn: Shared::zeroed()?,
            poll: PhantomData,
        })
    }

    fn take(&self, side: usize) -> Result<(), Failure> {
        // Acquire and release: what one does with the turn is seen by the other.
        while self.turn.load(Ordering::Acquire) as usize % 2 != side {
            P::pause();
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
