//! This crate's monitors: `ShmMutex` with `ShmCondvar`, and with `PthreadCondvar`, which
//! is there for sharing with C.

use shm_sync::{
    Error, LockResult, PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe,
};

use super::{Gate, Monitor, State, Tell};
use crate::contestants::Scope;
use crate::failure::Failure;
use crate::report::Survives;

/// What both condition variables can do.
pub(crate) trait Condition: ShmSafe {
    const NAME: &'static str;
    const SURVIVES: Survives;

    fn new() -> Self;

    fn wait_while<'a>(
        &self,
        guard: ShmMutexGuard<'a, State>,
        condition: impl FnMut(&mut State) -> bool,
    ) -> LockResult<ShmMutexGuard<'a, State>>;

    fn notify_one(&self);

    fn notify_all(&self);
}

/// Implements the trait with the inherent methods, which have the same names.
macro_rules! condition {
    ($condition:ident, $name:literal, $survives:expr) => {
        impl Condition for $condition {
            const NAME: &'static str = $name;
            const SURVIVES: Survives = $survives;

            fn new() -> Self {
                $condition::new()
            }

            #[inline]
            fn wait_while<'a>(
                &self,
                guard: ShmMutexGuard<'a, State>,
                condition: impl FnMut(&mut State) -> bool,
            ) -> LockResult<ShmMutexGuard<'a, State>> {
                $condition::wait_while(self, guard, condition)
            }

            #[inline]
            fn notify_one(&self) {
                $condition::notify_one(self);
            }

            #[inline]
            fn notify_all(&self) {
                $condition::notify_all(self);
            }
        }
    };
}

condition!(ShmCondvar, "shm-sync", Survives::Kills);
// A waiter that is killed at the wrong moment blocks those who notify.
condition!(
    PthreadCondvar,
    "shm-sync PthreadCondvar",
    Survives::SomeKills
);

#[derive(ShmSafe)]
#[repr(C)]
struct Court<C> {
    state: ShmMutex<State>,
    gates: [C; 2],
}

/// A segment with a mutex and two conditions.
pub(crate) struct Ours<C: Condition> {
    court: Segment<Court<C>>,
}

impl<C: Condition> Monitor for Ours<C> {
    const NAME: &'static str = C::NAME;
    const SURVIVES: Survives = C::SURVIVES;
    const SCOPE: Scope = Scope::Processes;

    fn make() -> Result<Self, Failure> {
        let court = Segment::anonymous(Court {
            state: ShmMutex::new(State::ZERO),
            gates: [C::new(), C::new()],
        })?;
        Ok(Self { court })
    }

    fn pass(
        &self,
        gate: Gate,
        must_wait: impl FnMut(&mut State) -> bool,
        act: impl FnOnce(&mut State) -> Tell,
    ) -> Result<(), Failure> {
        let Court { state, gates } = &*self.court;
        let state = state.lock().map_err(Error::from)?;
        let mut state = gates[gate.index()]
            .wait_while(state, must_wait)
            .map_err(Error::from)?;
        match act(&mut state) {
            Tell::Nobody => {}
            Tell::One(gate) => gates[gate.index()].notify_one(),
            Tell::All(gate) => gates[gate.index()].notify_all(),
        }
        Ok(())
    }
}
