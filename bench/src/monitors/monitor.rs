//! The traits of all monitors, and the state that they guard.

use shm_sync::ShmSafe;

use crate::contestants::Scope;
use crate::failure::Failure;
use crate::series::Survives;

/// The capacity of the ring between producer and consumer.
pub(crate) const RING: usize = 64;

/// The state that the lock guards. All fields begin as zero.
#[derive(Debug, ShmSafe)]
#[repr(C)]
pub(crate) struct State {
    /// The first field, so that the fields of all scenarios are close to the condition
    /// variables.
    pub(crate) ring: [u64; RING],
    /// A number with the parity of the side that has the turn. In other scenarios: the
    /// number of calls, or 1 at the end.
    pub(crate) turn: u64,
    /// Permits that no waiter has taken yet.
    pub(crate) permits: u64,
    /// Waiters that have answered the call.
    pub(crate) answers: u64,
    pub(crate) produced: u64,
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

/// One of the two condition variables.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitQueue {
    /// Waiters for a turn, a call or an item.
    Forward,
    /// The caller that waits for answers, and the producer.
    Backward,
}

impl WaitQueue {
    /// Returns 0 or 1.
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// The waiters to notify.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Notify {
    None,
    One(WaitQueue),
    All(WaitQueue),
}

/// A lock with two condition variables.
pub(crate) trait Monitor: Sync + Sized {
    const NAME: &'static str;
    const SURVIVES: Survives;
    const SCOPE: Scope;

    /// Creates a monitor before the workers are forked.
    fn create() -> Result<Self, Failure>;

    /// Locks, waits in `queue` while `must_wait` returns `true`, calls `act`, notifies
    /// the waiters that it returns, and unlocks.
    fn execute(
        &self,
        queue: WaitQueue,
        must_wait: impl FnMut(&mut State) -> bool,
        act: impl FnOnce(&mut State) -> Notify,
    ) -> Result<(), Failure>;
}

/// A method to pass a turn between two workers: a monitor or another one.
pub(crate) trait HandOver: Sync + Sized {
    const NAME: &'static str;
    const SURVIVES: Survives;
    const SCOPE: Scope;

    /// Creates it before the workers are forked. The first turn belongs to side 0.
    fn create() -> Result<Self, Failure>;

    /// Waits for the turn of `side`, which is 0 or 1.
    fn wait_for_turn(&self, side: usize) -> Result<(), Failure>;

    /// Passes the turn to the other side.
    fn pass_turn(&self, side: usize) -> Result<(), Failure>;

    /// Waits for the turn of `side` and passes it on.
    fn wait_and_pass(&self, side: usize) -> Result<(), Failure>;
}

impl<M: Monitor> HandOver for M {
    const NAME: &'static str = M::NAME;
    const SURVIVES: Survives = M::SURVIVES;
    const SCOPE: Scope = M::SCOPE;

    fn create() -> Result<Self, Failure> {
        M::create()
    }

    fn wait_for_turn(&self, side: usize) -> Result<(), Failure> {
        self.execute(
            WaitQueue::Forward,
            |state| !is_turn_of(side, state),
            |_| Notify::None,
        )
    }

    fn pass_turn(&self, _side: usize) -> Result<(), Failure> {
        self.execute(WaitQueue::Forward, |_| false, next_turn)
    }

    fn wait_and_pass(&self, side: usize) -> Result<(), Failure> {
        self.execute(
            WaitQueue::Forward,
            |state| !is_turn_of(side, state),
            next_turn,
        )
    }
}

fn is_turn_of(side: usize, state: &State) -> bool {
    state.turn % 2 == side as u64
}

fn next_turn(state: &mut State) -> Notify {
    state.turn += 1;
    Notify::One(WaitQueue::Forward)
}
