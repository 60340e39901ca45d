//! Boost.Interprocess: `interprocess_mutex` with `interprocess_condition`.

use std::cell::UnsafeCell;

use super::monitor::{Monitor, Notify, State, WaitQueue};
use crate::contestants::{BoostFunctions, BoostRoom, Scope, boost_functions};
use crate::failure::Failure;
use crate::series::Survives;
use crate::shared::{Shared, Zeroed};

/// A mutex and two condition variables of Boost, and the state.
#[repr(C)]
pub(crate) struct MonitorData {
    mutex: UnsafeCell<BoostRoom>,
    condvars: [UnsafeCell<BoostRoom>; 2],
    state: UnsafeCell<State>,
}

// SAFETY: only the holder of the mutex accesses the state. Threads may share the other
// objects.
unsafe impl Sync for MonitorData {}
// SAFETY: zeros are valid numbers; numbers refer to no process.
unsafe impl Zeroed for MonitorData {}

/// A monitor in shared memory.
pub(crate) struct Boost {
    functions: &'static BoostFunctions,
    data: Shared<MonitorData>,
}

impl Monitor for Boost {
    const NAME: &'static str = "Boost.Interprocess";
    const SURVIVES: Survives = Survives::Nothing;
    const SCOPE: Scope = Scope::Processes;

    fn create() -> Result<Self, Failure> {
        let functions = boost_functions()?;
        let data = Shared::<MonitorData>::zeroed()?;
        // SAFETY: the memory is large enough for a mutex, and no thread uses it yet.
        unsafe { (functions.mutex_new)(data.mutex.get().cast()) };
        for condvar in &data.condvars {
            // SAFETY: the memory is large enough for a condition variable, and no
            // thread uses it yet.
            unsafe { (functions.condition_new)(condvar.get().cast()) };
        }
        Ok(Self { functions, data })
    }

    fn execute(
        &self,
        queue: WaitQueue,
        mut must_wait: impl FnMut(&mut State) -> bool,
        act: impl FnOnce(&mut State) -> Notify,
    ) -> Result<(), Failure> {
        let MonitorData {
            mutex,
            condvars,
            state,
        } = &*self.data;
        let mutex = mutex.get().cast();
        let condvar = |queue: WaitQueue| condvars[queue.index()].get().cast();
        // SAFETY: `create` has created a mutex there.
        unsafe { (self.functions.mutex_lock)(mutex) };
        // SAFETY: this worker holds the mutex, and the reference ends with the call.
        while must_wait(unsafe { &mut *state.get() }) {
            // SAFETY: `create` has created both, and this worker holds the mutex.
            unsafe { (self.functions.condition_wait)(condvar(queue), mutex) };
        }
        // SAFETY: this worker holds the mutex, and the reference ends with the call.
        match act(unsafe { &mut *state.get() }) {
            Notify::None => {}
            // SAFETY: `create` has created the condition variable.
            Notify::One(queue) => unsafe { (self.functions.condition_notify_one)(condvar(queue)) },
            // SAFETY: `create` has created the condition variable.
            Notify::All(queue) => unsafe { (self.functions.condition_notify_all)(condvar(queue)) },
        }
        // SAFETY: this thread holds the mutex.
        unsafe { (self.functions.mutex_unlock)(mutex) };
        Ok(())
    }
}
