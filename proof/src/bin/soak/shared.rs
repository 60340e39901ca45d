//! The shared memory of the soak.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use shm_sync::ShmSafe;

use crate::checked_mutex::CheckedMutex;
use crate::condvar::{Condvar, CondvarKind};
use crate::family::Family;
use crate::findings::Findings;
use crate::ledger::Ledger;
use crate::queue::Queue;
use crate::scenario::Scenario;
use crate::slot::{Command, MAX_WORKERS, Slot};

/// All shared data. Zeros are the initial state.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Shared {
    pub(crate) ledger: CheckedMutex<Ledger>,
    pub(crate) queue: CheckedMutex<Queue>,
    pub(crate) not_empty: Condvar,
    pub(crate) not_full: Condvar,
    pub(crate) family: Family,
    pub(crate) slots: [Slot; MAX_WORKERS],
    pub(crate) scenarios: [Scenario; Scenario::COUNT],
    pub(crate) findings: Findings,
    /// The process id of the supervisor, which is in the names of all segments.
    pub(crate) supervisor: AtomicU32,
    /// The queue waits on libc's condition variable.
    uses_pthread: AtomicU32,
    /// The number of values that were made for segments.
    values: AtomicU64,
    segments_opened: AtomicU64,
    commands_begun: [AtomicU64; Command::ALL.len()],
}

impl Shared {
    pub(crate) fn condvar_kind(&self) -> CondvarKind {
        match self.uses_pthread.load(Ordering::Relaxed) {
            0 => CondvarKind::ShmCondvar,
            _ => CondvarKind::PthreadCondvar,
        }
    }

    pub(crate) fn set_condvar_kind(&self, kind: CondvarKind) {
        let is_pthread = u32::from(kind == CondvarKind::PthreadCondvar);
        self.uses_pthread.store(is_pthread, Ordering::Relaxed);
    }

    /// Gives all mutexes priority inheritance, before any process uses them.
    pub(crate) fn set_priority_inheritance(&mut self) {
        let Self {
            ledger,
            queue,
            scenarios,
            ..
        } = self;
        ledger.set_priority_inheritance();
        queue.set_priority_inheritance();
        let scenarios = scenarios.iter_mut();
        scenarios.for_each(Scenario::set_priority_inheritance);
    }

    /// Checks, without locks, that data under repair is poisoned.
    pub(crate) fn check_poison(&self) {
        self.ledger.check_poison(&self.findings);
        self.queue.check_poison(&self.findings);
    }

    /// Returns a new id for the value of a segment.
    pub(crate) fn next_value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn values(&self) -> u64 {
        self.values.load(Ordering::Relaxed)
    }

    pub(crate) fn count_opened(&self) {
        self.segments_opened.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn opened(&self) -> u64 {
        self.segments_opened.load(Ordering::Relaxed)
    }

    /// Counts a command that a worker carries out now.
    pub(crate) fn count_command(&self, command: Command) {
        self.commands_begun[command as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn commands(&self, command: Command) -> u64 {
        self.commands_begun[command as usize].load(Ordering::Relaxed)
    }
}
