//! Boost.Interprocess: `interprocess_mutex` with `interprocess_condition`.

use std::cell::UnsafeCell;

use super::{Gate, Monitor, State, Tell};
use crate::contestants::{BoostFunctions, BoostRoom, Scope, boost_functions};
use crate::failure::Failure;
use crate::report::Survives;
use crate::shared::{Shared, Zeroed};

/// A mutex and two conditions of Boost.
#[repr(C)]
pub(crate) struct Court {
    mutex: UnsafeCell<BoostRoom>,
    gates: [UnsafeCell<BoostRoom>; 2],
    state: UnsafeCell<State>,
}

// SAFETY: the state is used by the holder of the mutex only; the other objects are made
// to be used by many.
unsafe impl Sync for Court {}
// SAFETY: all is numbers.
unsafe impl Zeroed for Court {}

/// The same, in shared memory.
pub(crate) struct Boost {
    functions: &'static BoostFunctions,
    court: Shared<Court>,
}

impl Monitor for Boost {
    const NAME: &'static str = "Boost.Interprocess";
    const SURVIVES: Survives = Survives::Nothing;
    const SCOPE: Scope = Scope::Processes;

    fn make() -> Result<Self, Failure> {
        let functions = boost_functions()?;
        let court = Shared::<Court>::zeroed()?;
        // SAFETY: there is room for one, and nobody uses it yet.
        unsafe { (functions.mutex_new)(court.mutex.get().cast()) };
        for gate in &court.gates {
            // SAFETY: as above.
            unsafe { (functions.condition_new)(gate.get().cast()) };
        }
        Ok(Self { functions, court })
    }

    fn pass(
        &self,
        gate: Gate,
        mut must_wait: impl FnMut(&mut State) -> bool,
        act: impl FnOnce(&mut State) -> Tell,
    ) -> Result<(), Failure> {
        let Court {
            mutex,
            gates,
            state,
        } = &*self.court;
        let mutex = mutex.get().cast();
        let gate_of = |gate: Gate| gates[gate.index()].get().cast();
        // SAFETY: `make` made one there.
        unsafe { (self.functions.mutex_lock)(mutex) };
        // SAFETY: the mutex is held, and no reference outlives the call.
        while must_wait(unsafe { &mut *state.get() }) {
            // SAFETY: `make` made both, and the mutex is held.
            unsafe { (self.functions.condition_wait)(gate_of(gate), mutex) };
        }
        // SAFETY: the mutex is held, and no reference outlives the call.
        match act(unsafe { &mut *state.get() }) {
            Tell::Nobody => {}
            // SAFETY: `make` made it.
            Tell::One(gate) => unsafe { (self.functions.condition_notify_one)(gate_of(gate)) },
            // SAFETY: as above.
            Tell::All(gate) => unsafe { (self.functions.condition_notify_all)(gate_of(gate)) },
        }
        // SAFETY: it is held by this thread.
        unsafe { (self.functions.mutex_unlock)(mutex) };
        Ok(())
    }
}
