//! The robust mutex of the C library with its conditions, as a careful C program has them.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use super::{Gate, Monitor, State, Tell};
use crate::contestants::{Scope, check, initialise};
use crate::failure::Failure;
use crate::report::Survives;
use crate::shared::{Shared, Zeroed};

/// A mutex and two conditions of the C library.
#[repr(C)]
pub(crate) struct Court {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    gates: [UnsafeCell<libc::pthread_cond_t>; 2],
    state: UnsafeCell<State>,
}

// SAFETY: the state is used by the holder of the mutex only; the other objects are made
// to be used by many.
unsafe impl Sync for Court {}
// SAFETY: the C library's objects may have any bytes before they are initialised, and the
// state is numbers; neither refers to a process.
unsafe impl Zeroed for Court {}

/// The same, in shared memory.
pub(crate) struct Pthread {
    court: Shared<Court>,
}

impl Monitor for Pthread {
    const NAME: &'static str = "pthread robust";
    // A waiter that is killed at the wrong moment blocks those who notify.
    const SURVIVES: Survives = Survives::SomeKills;
    const SCOPE: Scope = Scope::Processes;

    fn make() -> Result<Self, Failure> {
        let court = Shared::<Court>::zeroed()?;
        initialise(
            court.mutex.get(),
            libc::PTHREAD_MUTEX_ROBUST,
            libc::PTHREAD_MUTEX_NORMAL,
        )?;
        for gate in &court.gates {
            init_condition(gate.get())?;
        }
        Ok(Self { court })
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
        let gate = &gates[gate.index()];
        // SAFETY: initialised.
        let locked = unsafe { libc::pthread_mutex_lock(mutex.get()) };
        check("pthread_mutex_lock", locked)?;
        // SAFETY: the mutex is held, and no reference outlives the call.
        while must_wait(unsafe { &mut *state.get() }) {
            // SAFETY: both are initialised, and the mutex is held.
            let waited = unsafe { libc::pthread_cond_wait(gate.get(), mutex.get()) };
            check("pthread_cond_wait", waited)?;
        }
        // SAFETY: the mutex is held, and no reference outlives the call.
        match act(unsafe { &mut *state.get() }) {
            Tell::Nobody => {}
            Tell::One(gate) => {
                // SAFETY: initialised.
                let told = unsafe { libc::pthread_cond_signal(gates[gate.index()].get()) };
                check("pthread_cond_signal", told)?;
            }
            Tell::All(gate) => {
                // SAFETY: initialised.
                let told = unsafe { libc::pthread_cond_broadcast(gates[gate.index()].get()) };
                check("pthread_cond_broadcast", told)?;
            }
        }
        // SAFETY: initialised, and held.
        let unlocked = unsafe { libc::pthread_mutex_unlock(mutex.get()) };
        check("pthread_mutex_unlock", unlocked)
    }
}

/// Makes a process-shared condition.
fn init_condition(condition: *mut libc::pthread_cond_t) -> Result<(), Failure> {
    let mut attributes = MaybeUninit::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: there is room for attributes. The C library keeps nothing else for them
    // that would have to be freed.
    check("pthread_condattr_init", unsafe {
        libc::pthread_condattr_init(attributes)
    })?;
    // SAFETY: they are initialised.
    let set =
        unsafe { libc::pthread_condattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) };
    check("pthread_condattr_setpshared", set)?;
    // SAFETY: nobody uses it yet, and it stays where it is.
    check("pthread_cond_init", unsafe {
        libc::pthread_cond_init(condition, attributes)
    })
}
