//! A mutex that checks the library: one holder at a time, reported owner deaths, no
//! torn data without poison, poison until the repair ends.

use std::sync::atomic::{AtomicU32, Ordering, compiler_fence, fence};

use shm_sync::{LockError, LockResult, PoisonCause, ShmMutex, ShmMutexGuard, ShmSafe};

use crate::findings::{Findings, Site, Violation};

/// Separates two steps of a change: what precedes it in the program is stored before
/// it.
pub(crate) fn step() {
    compiler_fence(Ordering::SeqCst);
}

/// Data that shows whether a process died between two steps of a change.
pub(crate) trait CheckedData: ShmSafe {
    /// The mutex, for the report.
    const SITE: Site;

    /// Describes what is inconsistent.
    fn fault(&self) -> Option<String>;

    /// Makes the data consistent, wherever its last user died. May be repeated.
    fn repair(&mut self);
}

/// The mutex, and words that only its holder writes.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct CheckedMutex<T: ShmSafe> {
    pub(crate) mutex: ShmMutex<T>,
    /// The process that has entered, by its own account; or 0.
    inside: AtomicU32,
    /// The number of repairs that were begun.
    repairs: AtomicU32,
    /// The number of the unfinished repair; or 0.
    repairing: AtomicU32,
}

type Guard<'a, T> = ShmMutexGuard<'a, T>;

impl<T: CheckedData> CheckedMutex<T> {
    pub(crate) fn new(mutex: ShmMutex<T>) -> Self {
        Self {
            mutex,
            inside: AtomicU32::new(0),
            repairs: AtomicU32::new(0),
            repairing: AtomicU32::new(0),
        }
    }

    /// Gives the mutex priority inheritance.
    pub(crate) fn set_priority_inheritance(&mut self)
    where
        T: Default,
    {
        let value = std::mem::take(self.mutex.get_mut());
        self.mutex = ShmMutex::with_priority_inheritance(value);
    }

    /// Checks the result of a call that locks: no other process is inside, and the data
    /// is consistent or poisoned. Repairs poisoned data.
    pub(crate) fn enter<'a>(
        &self,
        findings: &Findings,
        result: LockResult<Guard<'a, T>>,
    ) -> Option<Guard<'a, T>> {
        let guard = match result {
            Ok(guard) => {
                let other = self.inside.load(Ordering::Relaxed);
                if other != 0 {
                    let detail = format_args!("{:?}: process {other} is inside", T::SITE);
                    findings.violation(Violation::TwoHolders, detail);
                }
                guard
            }
            Err(LockError::Poisoned(poisoned)) => {
                match poisoned.cause() {
                    PoisonCause::Panicked { .. } => findings.count_panic(),
                    cause => findings.owner_deaths.report(cause.pid(), T::SITE),
                }
                poisoned.recover(|data| self.repair(data))
            }
            Err(LockError::TimedOut | LockError::WouldBlock) => return None,
            Err(other) => {
                let detail = format_args!("{:?}: {other}", T::SITE);
                findings.violation(Violation::LockRefused, detail);
                return None;
            }
        };
        if let Some(fault) = guard.fault() {
            findings.violation(Violation::Torn, format_args!("{:?}: {fault}", T::SITE));
        }
        self.inside.store(std::process::id(), Ordering::Relaxed);
        Some(guard)
    }

    fn repair(&self, data: &mut T) {
        let number = self.repairs.load(Ordering::Relaxed).wrapping_add(1).max(1);
        self.repairs.store(number, Ordering::Relaxed);
        self.repairing.store(number, Ordering::Release);
        // Long enough for other processes to see the repair, and for a kill to hit it.
        for _ in 0..64 {
            std::hint::spin_loop();
        }
        self.inside.store(0, Ordering::Relaxed);
        data.repair();
        self.repairing.store(0, Ordering::Relaxed);
        // A process that sees the library's next store sees this zero, too: see
        // `check_poison`.
        fence(Ordering::Release);
    }

    /// Checks, before an unlock, that this process was the only holder.
    pub(crate) fn leave(&self, findings: &Findings) {
        let me = std::process::id();
        let holder = self.mutex.holder();
        if holder.is_none_or(|holder| holder.pid != me) {
            let detail = format_args!("{:?}: process {me} holds it, not {holder:?}", T::SITE);
            findings.violation(Violation::WrongHolder, detail);
        }
        let inside = self.inside.swap(0, Ordering::Relaxed);
        if inside != me {
            let detail = format_args!("{:?}: {me} and {inside}", T::SITE);
            findings.violation(Violation::TwoHolders, detail);
        }
        compiler_fence(Ordering::SeqCst);
    }

    /// Checks, without the lock, that the data is poisoned during a repair.
    pub(crate) fn check_poison(&self, findings: &Findings) {
        let before = self.repairing.load(Ordering::Acquire);
        if before == 0 {
            return;
        }
        let is_poisoned = self.mutex.is_poisoned();
        // If that was the clean word after the repair, the load below sees the zero
        // that was stored before it.
        fence(Ordering::Acquire);
        if !is_poisoned && self.repairing.load(Ordering::Relaxed) == before {
            let detail = format_args!("{:?}: repair {before} has not ended", T::SITE);
            findings.violation(Violation::PoisonGone, detail);
        }
    }

    /// Returns whether no other process has changed the mutex, while this process holds
    /// it and repairs nothing.
    pub(crate) fn is_untouched(&self) -> bool {
        let me = std::process::id();
        self.inside.load(Ordering::Relaxed) == me
            && self.mutex.holder().is_some_and(|holder| holder.pid == me)
            && !self.mutex.is_poisoned()
    }
}
