//! The robust mutex and the condition variables of the C library, as a careful C
//! program uses them.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use super::monitor::{Monitor, Notify, State, WaitQueue};
use crate::contestants::{Scope, check, initialise};
use crate::failure::Failure;
use crate::series::{Survives, TIMED_PTHREAD};
use crate::shared::{Shared, Zeroed};

/// A mutex, two condition variables and the state.
#[repr(C)]
pub(crate) struct MonitorData {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    condvars: [UnsafeCell<libc::pthread_cond_t>; 2],
    state: UnsafeCell<State>,
}

// SAFETY: only the holder of the mutex accesses the state. Threads may share the other
// objects.
unsafe impl Sync for MonitorData {}
// SAFETY: the C library accepts any bytes before it initialises its objects, and zeros
// are valid numbers. Neither refers to a process.
unsafe impl Zeroed for MonitorData {}

/// A monitor in shared memory. If it is `TIMED`, each wait for a notification has a
/// deadline, because a program that checks for dead processes needs one.
pub(crate) struct Pthread<const TIMED: bool = false> {
    data: Shared<MonitorData>,
}

/// A monitor whose waits have deadlines.
pub(crate) type TimedPthread = Pthread<true>;

/// The milliseconds after which a timed wait begins again.
const WAIT_MILLIS: i64 = 150;

impl<const TIMED: bool> Monitor for Pthread<TIMED> {
    const NAME: &'static str = if TIMED {
        TIMED_PTHREAD
    } else {
        "pthread robust"
    };
    // A waiter that is killed at the wrong instruction blocks notifiers.
    const SURVIVES: Survives = Survives::SomeKills;
    const SCOPE: Scope = Scope::Processes;

    fn create() -> Result<Self, Failure> {
        let data = Shared::<MonitorData>::zeroed()?;
        initialise(
            data.mutex.get(),
            libc::PTHREAD_MUTEX_ROBUST,
            libc::PTHREAD_MUTEX_NORMAL,
        )?;
        for condvar in &data.condvars {
            init_condition(condvar.get())?;
        }
        Ok(Self { data })
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
        let condvar = &condvars[queue.index()];
        // SAFETY: `create` has initialised the mutex.
        let locked = unsafe { libc::pthread_mutex_lock(mutex.get()) };
        check("pthread_mutex_lock", locked)?;
        // SAFETY: this worker holds the mutex, and the reference ends with the call.
        while must_wait(unsafe { &mut *state.get() }) {
            if TIMED {
                let deadline = after_millis(WAIT_MILLIS)?;
                // SAFETY: `create` has initialised both, and this worker holds the
                // mutex. The deadline outlives the call.
                let waited = unsafe {
                    libc::pthread_cond_timedwait(condvar.get(), mutex.get(), &raw const deadline)
                };
                if waited != libc::ETIMEDOUT {
                    check("pthread_cond_timedwait", waited)?;
                }
            } else {
                // SAFETY: `create` has initialised both, and this worker holds the
                // mutex.
                let waited = unsafe { libc::pthread_cond_wait(condvar.get(), mutex.get()) };
                check("pthread_cond_wait", waited)?;
            }
        }
        // SAFETY: this worker holds the mutex, and the reference ends with the call.
        match act(unsafe { &mut *state.get() }) {
            Notify::None => {}
            Notify::One(queue) => {
                // SAFETY: `create` has initialised the condition variable.
                let notified = unsafe { libc::pthread_cond_signal(condvars[queue.index()].get()) };
                check("pthread_cond_signal", notified)?;
            }
            Notify::All(queue) => {
                // SAFETY: `create` has initialised the condition variable.
                let notified =
                    unsafe { libc::pthread_cond_broadcast(condvars[queue.index()].get()) };
                check("pthread_cond_broadcast", notified)?;
            }
        }
        // SAFETY: `create` has initialised the mutex, and this worker holds it.
        let unlocked = unsafe { libc::pthread_mutex_unlock(mutex.get()) };
        check("pthread_mutex_unlock", unlocked)
    }
}

/// Returns the wall-clock time in `millis` milliseconds. Condition variables use this
/// clock by default.
fn after_millis(millis: i64) -> Result<libc::timespec, Failure> {
    const NANOS_PER_SECOND: i64 = 1_000_000_000;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is valid for writes.
    let read = unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    check("clock_gettime", read)?;
    let nanos = time.tv_nsec + millis * (NANOS_PER_SECOND / 1_000);
    time.tv_sec += nanos / NANOS_PER_SECOND;
    time.tv_nsec = nanos % NANOS_PER_SECOND;
    Ok(time)
}

/// Initialises a process-shared condition variable.
fn init_condition(condition: *mut libc::pthread_cond_t) -> Result<(), Failure> {
    let mut attributes = MaybeUninit::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: the memory has the size of attributes. In glibc they own no other memory,
    // so they need not be destroyed.
    check("pthread_condattr_init", unsafe {
        libc::pthread_condattr_init(attributes)
    })?;
    // SAFETY: the attributes are initialised.
    let set =
        unsafe { libc::pthread_condattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) };
    check("pthread_condattr_setpshared", set)?;
    // SAFETY: no thread uses the condition variable yet, and it is not moved. The
    // attributes are initialised.
    check("pthread_cond_init", unsafe {
        libc::pthread_cond_init(condition, attributes)
    })
}
