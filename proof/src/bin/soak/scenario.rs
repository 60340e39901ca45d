//! The shared data of a recovery scenario, and what its processes do.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use shm_sync::{LockResult, OrRecover, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe};

use crate::findings::{Findings, Violation};
use crate::process::now;

/// A mutex and a condition variable, and the times at which processes got on. Waiters
/// wait for tickets.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Scenario {
    pub(crate) tickets: ShmMutex<u64>,
    pub(crate) offered: ShmCondvar,
    /// The time at which each waiter last woke.
    pub(crate) woke_at: [AtomicU64; Self::WAITERS],
    /// The time at which a waiter last took a ticket.
    pub(crate) taken_at: AtomicU64,
    /// The time at which a blocked locker last got the mutex of a dead holder.
    pub(crate) locked_at: AtomicU64,
    /// The process that holds the mutex until it is killed.
    pub(crate) holder: AtomicU32,
}

impl Scenario {
    pub(crate) const WAITERS: usize = 3;
    /// The number of scenarios: a third of them for each kind.
    pub(crate) const COUNT: usize = 9;

    pub(crate) fn set_priority_inheritance(&mut self) {
        self.tickets = ShmMutex::with_priority_inheritance(0);
    }

    /// Waits for a ticket and takes it, for ever.
    pub(crate) fn take_tickets(&self, findings: &Findings, waiter: usize) {
        let Some(mut tickets) = recovered(findings, self.tickets.lock()) else {
            return;
        };
        loop {
            while *tickets == 0 {
                let result = self.offered.wait(tickets);
                self.woke_at[waiter].store(now(), Ordering::Release);
                match recovered(findings, result) {
                    Some(guard) => tickets = guard,
                    None => return,
                }
            }
            *tickets -= 1;
            self.taken_at.store(now(), Ordering::Release);
        }
    }

    pub(crate) fn hold_until_killed(&self, findings: &Findings) {
        let _tickets = recovered(findings, self.tickets.lock());
        self.holder.store(std::process::id(), Ordering::Release);
        loop {
            nix::unistd::pause();
        }
    }

    /// Blocks on the mutex. Usually this process sees the owner death. If a waiter
    /// rechecks at the same moment, that waiter may see it.
    pub(crate) fn lock_after_owner_death(&self, findings: &Findings) {
        let result = self.tickets.lock();
        self.locked_at.store(now(), Ordering::Release);
        drop(recovered(findings, result));
    }
}

/// Returns the guard of a lock. There is nothing to repair, because a number is never
/// half-changed.
pub(crate) fn recovered<'a>(
    findings: &Findings,
    result: LockResult<ShmMutexGuard<'a, u64>>,
) -> Option<ShmMutexGuard<'a, u64>> {
    match result.or_recover(|_, _| ()) {
        Ok(guard) => Some(guard),
        Err(error) => {
            let detail = format_args!("in a scenario: {error}");
            findings.violation(Violation::LockRefused, detail);
            None
        }
    }
}
