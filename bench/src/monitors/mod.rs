//! Locks with conditions to wait for.
//!
//! | contestant | a process is killed at the wrong moment | why |
//! |---|---|---|
//! | shm-sync | all go on | `ShmCondvar`: a count, and sleepers who look around now and then |
//! | shm-sync, PthreadCondvar | notifiers may wait for ever | the condition of the C library counts its waiters |
//! | pthread robust | the same | the same |
//! | Boost.Interprocess | all wait for ever | its mutex, and the same |
//! | pair of semaphores | all wait for ever | a turn has no owner |
//! | flag + usleep(1000) | all wait for ever | a turn has no owner |
//! | bare word, spinning | all wait for ever | the same; it is there as the least that can be: one cache line goes over |
//! | std::sync | does not apply | threads of one process, for scale |

mod boost;
mod ours;
mod polled;
mod pthread;
mod semaphores;
mod standard;

use shm_sync::ShmSafe;

use crate::contestants::Scope;
use crate::failure::Failure;
use crate::report::Survives;

pub(crate) use boost::Boost;
pub(crate) use ours::Ours;
pub(crate) use polled::{PolledTurn, Sleeping, Spinning};
pub(crate) use pthread::Pthread;
pub(crate) use semaphores::Semaphores;
pub(crate) use standard::Standard;

/// The places of the ring between producer and consumer.
pub(crate) const RING: usize = 64;

/// What the lock guards. All begins as zero.
#[derive(Debug, ShmSafe)]
#[repr(C)]
pub(crate) struct State {
    /// In front, so that what all touch lies beside the conditions, as it would without
    /// the ring.
    pub(crate) ring: [u64; RING],
    /// Whose turn it is, by its parity; or how many calls there were; or that the play
    /// is over.
    pub(crate) turn: u64,
    /// Given and not yet taken.
    pub(crate) permits: u64,
    /// How many waiters have answered the call.
    pub(crate) answers: u64,
    /// How many items were produced.
    pub(crate) produced: u64,
    /// How many items were consumed.
    pub(crate) consumed: u64,
}

impl State {
    pub(crate) const ZERO: Self = Self {
        ring: [0; RING],
        turn: 0,
        permits: 0,
        answers: 0,
        produced: 0,
        consumed: 0,
    };
}

/// One of the two conditions.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gate {
    /// Where players and consumers wait.
    Forth,
    /// Where those wait who called, or who produce.
    Back,
}

impl Gate {
    /// 0 or 1.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// Whom to notify.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tell {
    Nobody,
    One(Gate),
    All(Gate),
}

/// A lock with two conditions.
pub(crate) trait Monitor: Sync + Sized {
    const NAME: &'static str;
    const SURVIVES: Survives;
    const SCOPE: Scope;

    /// Makes one, before the workers are forked.
    fn make() -> Result<Self, Failure>;

    /// Takes the lock, waits at `gate` for as long as `must_wait` says so, does `act`,
    /// notifies whom that says, and gives the lock back.
    fn pass(
        &self,
        gate: Gate,
        must_wait: impl FnMut(&mut State) -> bool,
        act: impl FnOnce(&mut State) -> Tell,
    ) -> Result<(), Failure>;
}

/// What passes a turn to and fro: a monitor, or whatever else can.
pub(crate) trait Turns: Sync + Sized {
    const NAME: &'static str;
    const SURVIVES: Survives;
    const SCOPE: Scope;

    /// Makes one, before the workers are forked. It is the turn of side 0.
    fn make() -> Result<Self, Failure>;

    /// Waits for the turn of `side`, which is 0 or 1.
    fn take(&self, side: usize) -> Result<(), Failure>;

    /// Gives the turn to the other side.
    fn give(&self, side: usize) -> Result<(), Failure>;

    /// Waits for the turn, and gives it on at once.
    fn take_and_give(&self, side: usize) -> Result<(), Failure>;
}

impl<M: Monitor> Turns for M {
    const NAME: &'static str = M::NAME;
    const SURVIVES: Survives = M::SURVIVES;
    const SCOPE: Scope = M::SCOPE;

    fn make() -> Result<Self, Failure> {
        M::make()
    }

    fn take(&self, side: usize) -> Result<(), Failure> {
        self.pass(
            Gate::Forth,
            |state| !is_turn_of(side, state),
            |_| Tell::Nobody,
        )
    }

    fn give(&self, _side: usize) -> Result<(), Failure> {
        self.pass(Gate::Forth, |_| false, next_turn)
    }

    fn take_and_give(&self, side: usize) -> Result<(), Failure> {
        self.pass(Gate::Forth, |state| !is_turn_of(side, state), next_turn)
    }
}

fn is_turn_of(side: usize, state: &State) -> bool {
    state.turn % 2 == side as u64
}

fn next_turn(state: &mut State) -> Tell {
    state.turn += 1;
    Tell::One(Gate::Forth)
}
