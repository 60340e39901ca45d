//! `std::sync::Mutex` with `std::sync::Condvar`, between threads, for comparison.

use std::sync::{Condvar, Mutex, PoisonError};

use super::monitor::{Monitor, Notify, State, WaitQueue};
use crate::contestants::Scope;
use crate::failure::Failure;
use crate::series::Survives;

/// A mutex and two condition variables of the standard library.
pub(crate) struct Standard {
    state: Mutex<State>,
    condvars: [Condvar; 2],
}

impl Monitor for Standard {
    const NAME: &'static str = "std::sync (threads)";
    const SURVIVES: Survives = Survives::DoesNotApply;
    const SCOPE: Scope = Scope::Threads;

    fn create() -> Result<Self, Failure> {
        Ok(Self {
            state: Mutex::new(State::ZERO),
            condvars: [Condvar::new(), Condvar::new()],
        })
    }

    fn execute(
        &self,
        queue: WaitQueue,
        must_wait: impl FnMut(&mut State) -> bool,
        act: impl FnOnce(&mut State) -> Notify,
    ) -> Result<(), Failure> {
        // A worker that panics fails its round, and no round uses this monitor again.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.condvars[queue.index()]
            .wait_while(state, must_wait)
            .unwrap_or_else(PoisonError::into_inner);
        match act(&mut state) {
            Notify::None => {}
            Notify::One(queue) => self.condvars[queue.index()].notify_one(),
            Notify::All(queue) => self.condvars[queue.index()].notify_all(),
        }
        Ok(())
    }
}
