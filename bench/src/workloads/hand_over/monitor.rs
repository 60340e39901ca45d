//! A lock with two conditions, in shared memory: what the hand-overs are played with.

use shm_sync::ShmSafe;

use crate::contestants::Scope;
use crate::failure::Failure;
use crate::report::Survives;

/// The places of the ring between producer and consumer.
pub(super) const RING: usize = 64;

/// What the lock guards. All begins as zero.
#[derive(Debug, ShmSafe)]
#[repr(C)]
pub(super) struct State {
    /// Whose turn it is, by its parity; or how many calls there were; or that the play
    /// is over.
    pub(super) turn: u64,
    /// Given and not yet taken.
    pub(super) permits: u64,
    /// How many waiters have answered the call.
    pub(super) answers: u64,
    /// How many items were produced.
    pub(super) produced: u64,
    /// How many items were consumed.
    pub(super) consumed: u64,
    pub(super) ring: [u64; RING],
}

impl State {
    pub(super) const ZERO: Self = Self {
        turn: 0,
        permits: 0,
        answers: 0,
        produced: 0,
        consumed: 0,
        ring: [0; RING],
    };
}

/// One of the two conditions.
#[derive(Clone, Copy, Debug)]
pub(super) enum Gate {
    /// Where players and consumers wait.
    Forth,
    /// Where those wait who called, or who produce.
    Back,
}

impl Gate {
    /// 0 or 1.
    pub(super) fn index(self) -> usize {
        self as usize
    }
}

/// Whom to notify.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tell {
    Nobody,
    One(Gate),
    All(Gate),
}

/// A lock with two conditions.
pub(super) trait Monitor: Sync + Sized {
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
pub(super) trait Turns: Sync + Sized {
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
        self.pass(Gate::Forth, |state| !is_turn_of(side, state), |_| Tell::Nobody)
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
