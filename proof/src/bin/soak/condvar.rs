//! A condition variable of either kind.

use std::time::Duration;

use shm_sync::{LockResult, PthreadCondvar, ShmCondvar, ShmMutexGuard, ShmSafe};

/// The condition variable of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CondvarKind {
    /// This crate's, which survives.
    ShmCondvar,
    /// libc's, which gets stuck.
    PthreadCondvar,
}

/// Two condition variables, of which the [`CondvarKind`] chooses one.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Condvar {
    pub(crate) shm: ShmCondvar,
    pthread: PthreadCondvar,
}

impl Condvar {
    pub(crate) fn wait<'a, T: ShmSafe>(
        &self,
        kind: CondvarKind,
        guard: ShmMutexGuard<'a, T>,
    ) -> LockResult<ShmMutexGuard<'a, T>> {
        match kind {
            CondvarKind::ShmCondvar => self.shm.wait(guard),
            CondvarKind::PthreadCondvar => self.pthread.wait(guard),
        }
    }

    pub(crate) fn wait_timeout<'a, T: ShmSafe>(
        &self,
        kind: CondvarKind,
        guard: ShmMutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<ShmMutexGuard<'a, T>> {
        let result = match kind {
            CondvarKind::ShmCondvar => self.shm.wait_timeout(guard, timeout),
            CondvarKind::PthreadCondvar => self.pthread.wait_timeout(guard, timeout),
        };
        result.map(|(guard, _)| guard)
    }

    pub(crate) fn notify_one(&self, kind: CondvarKind) {
        match kind {
            CondvarKind::ShmCondvar => self.shm.notify_one(),
            CondvarKind::PthreadCondvar => self.pthread.notify_one(),
        }
    }

    pub(crate) fn notify_all(&self, kind: CondvarKind) {
        match kind {
            CondvarKind::ShmCondvar => self.shm.notify_all(),
            CondvarKind::PthreadCondvar => self.pthread.notify_all(),
        }
    }
}
