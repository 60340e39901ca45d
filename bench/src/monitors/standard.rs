//! `std::sync::Mutex` with `std::sync::Condvar`, between threads: for scale.

use std::sync::{Condvar, Mutex, PoisonError};

use super::{Gate, Monitor, State, Tell};
use crate::contestants::Scope;
use crate::failure::Failure;
use crate::report::Survives;

/// A mutex and two conditions of the standard library.
pub(crate) struct Standard {
    state: Mutex<State>,
    gates: [Condvar; 2],
}

impl Monitor for Standard {
    const NAME: &'static str = "std::sync (threads)";
    const SURVIVES: Survives = Survives::DoesNotApply;
    const SCOPE: Scope = Scope::Threads;

    fn make() -> Result<Self, Failure> {
        Ok(Self {
            state: Mutex::new(State::ZERO),
            gates: [Condvar::new(), Condvar::new()],
        })
    }

    fn pass(
        &self,
        gate: Gate,
        must_wait: impl FnMut(&mut State) -> bool,
        act: impl FnOnce(&mut State) -> Tell,
    ) -> Result<(), Failure> {
        // A worker that panics fails its round, and this is not used again.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.gates[gate.index()]
            .wait_while(state, must_wait)
            .unwrap_or_else(PoisonError::into_inner);
        match act(&mut state) {
            Tell::Nobody => {}
            Tell::One(gate) => self.gates[gate.index()].notify_one(),
            Tell::All(gate) => self.gates[gate.index()].notify_all(),
        }
        Ok(())
    }
}
