//! The monitors of shm-sync: `ShmMutex` with `ShmCondvar`, and with `PthreadCondvar`,
//! which C programs can share.

use shm_sync::{
    Error, LockResult, PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe,
};

use super::monitor::{Monitor, Notify, State, WaitQueue};
use crate::contestants::Scope;
use crate::failure::Failure;
use crate::series::Survives;

/// The methods that both condition variables have.
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

/// Implements the trait with the inherent methods of the same names.
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
// A waiter that is killed at the wrong instruction blocks notifiers.
condition!(
    PthreadCondvar,
    "shm-sync PthreadCondvar",
    Survives::SomeKills
);

#[derive(ShmSafe)]
#[repr(C)]
struct MonitorData<C> {
    state: ShmMutex<State>,
    condvars: [C; 2],
}

/// A segment with a mutex and two condition variables.
pub(crate) struct ShmMonitor<C: Condition> {
    data: Segment<MonitorData<C>>,
}

impl<C: Condition> Monitor for ShmMonitor<C> {
    const NAME: &'static str = C::NAME;
    const SURVIVES: Survives = C::SURVIVES;
    const SCOPE: Scope = Scope::Processes;

    fn create() -> Result<Self, Failure> {
        let data = Segment::anonymous(MonitorData {
            state: ShmMutex::new(State::ZERO),
            condvars: [C::new(), C::new()],
        })?;
        Ok(Self { data })
    }

    fn execute(
        &self,
        queue: WaitQueue,
        must_wait: impl FnMut(&mut State) -> bool,
        act: impl FnOnce(&mut State) -> Notify,
    ) -> Result<(), Failure> {
        let MonitorData { state, condvars } = &*self.data;
        let state = state.lock().map_err(Error::from)?;
        let mut state = condvars[queue.index()]
            .wait_while(state, must_wait)
            .map_err(Error::from)?;
        match act(&mut state) {
            Notify::None => {}
            Notify::One(queue) => condvars[queue.index()].notify_one(),
            Notify::All(queue) => condvars[queue.index()].notify_all(),
        }
        Ok(())
    }
}
