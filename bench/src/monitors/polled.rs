//! A polled number in shared memory. Its parity is the side that has the turn. Between
//! two polls a waiter calls `usleep(1000)` or only pauses. Polling without a sleep is
//! the fastest possible hand-over.

use std::hint;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::monitor::HandOver;
use crate::contestants::{POLL_INTERVAL, POLLED_FLAG, Scope};
use crate::failure::Failure;
use crate::series::Survives;
use crate::shared::Shared;

/// A kind of pause between two polls.
pub(crate) trait Poll {
    const NAME: &'static str;
    fn pause();
}

/// A sleep.
pub(crate) struct Sleeping;

impl Poll for Sleeping {
    const NAME: &'static str = POLLED_FLAG;

    fn pause() {
        thread::sleep(POLL_INTERVAL);
    }
}

/// A spin-loop hint.
pub(crate) struct Spinning;

impl Poll for Spinning {
    const NAME: &'static str = "bare word, spinning";

    fn pause() {
        hint::spin_loop();
    }
}

/// A turn. The side that has it increments the number to pass it on.
pub(crate) struct PolledTurn<P> {
    turn: Shared<AtomicU32>,
    poll: PhantomData<fn(P)>,
}

impl<P: Poll> HandOver for PolledTurn<P> {
    const NAME: &'static str = P::NAME;
    const SURVIVES: Survives = Survives::Nothing;
    const SCOPE: Scope = Scope::Processes;

    fn create() -> Result<Self, Failure> {
        Ok(Self {
            turn: Shared::zeroed()?,
            poll: PhantomData,
        })
    }

    fn wait_for_turn(&self, side: usize) -> Result<(), Failure> {
        // Acquire and Release: a side sees what the other side wrote during its turn.
        while self.turn.load(Ordering::Acquire) as usize % 2 != side {
            P::pause();
        }
        Ok(())
    }

    fn pass_turn(&self, _side: usize) -> Result<(), Failure> {
        self.turn.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn wait_and_pass(&self, side: usize) -> Result<(), Failure> {
        self.wait_for_turn(side)?;
        self.pass_turn(side)
    }
}
