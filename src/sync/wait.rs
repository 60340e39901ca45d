//! The four ways to wait, over whatever does the waiting.

use std::time::Duration;

use super::mutex::ShmMutexGuard;
use super::raw_mutex::{LockToken, RawLockError, RawMutex};
use crate::error::{LockError, LockResult};
use crate::os::clock::Deadline;
use crate::shm_safe::ShmSafe;

/// What a condition variable must know how to do.
pub(super) trait Wait {
    /// Gives the mutex back, waits for a notification or the deadline, and
    /// takes the mutex again. After an error it is not held.
    fn wait_raw(
        &self,
        mutex: &RawMutex,
        held: LockToken,
        deadline: Option<Deadline>,
    ) -> Result<(LockToken, WaitTimeoutResult), RawLockError>;
}

/// Whether a wait with a timeout ended by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult {
    pub(super) timed_out: bool,
}

impl WaitTimeoutResult {
    /// Whether the timeout ended the wait.
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.timed_out
    }
}

/// What a wait with a timeout returns: the guard again and whether the timeout
/// ended the wait, or an error as from a lock. A poisoned lock does not say whether
/// the timeout passed.
pub type WaitTimeoutLockResult<'a, T> =
    Result<(ShmMutexGuard<'a, T>, WaitTimeoutResult), LockError<ShmMutexGuard<'a, T>>>;

/// Waits once.
pub(super) fn wait<'a, T: ShmSafe>(
    on: &impl Wait,
    guard: ShmMutexGuard<'a, T>,
) -> LockResult<ShmMutexGuard<'a, T>> {
    wait_until(on, guard, None).map(|(guard, _)| guard)
}

/// Waits for as long as `condition` is true.
pub(super) fn wait_while<'a, T: ShmSafe>(
    on: &impl Wait,
    mut guard: ShmMutexGuard<'a, T>,
    mut condition: impl FnMut(&mut T) -> bool,
) -> LockResult<ShmMutexGuard<'a, T>> {
    while condition(&mut guard) {
        guard = wait(on, guard)?;
    }
    Ok(guard)
}

/// Waits once, but no longer than `timeout`.
pub(super) fn wait_timeout<'a, T: ShmSafe>(
    on: &impl Wait,
    guard: ShmMutexGuard<'a, T>,
    timeout: Duration,
) -> WaitTimeoutLockResult<'a, T> {
    wait_until(on, guard, Some(Deadline::after(timeout)))
}

/// Waits for as long as `condition` is true, but no longer than `timeout`.
pub(super) fn wait_timeout_while<'a, T: ShmSafe>(
    on: &impl Wait,
    mut guard: ShmMutexGuard<'a, T>,
    timeout: Duration,
    mut condition: impl FnMut(&mut T) -> bool,
) -> WaitTimeoutLockResult<'a, T> {
    let deadline = Deadline::after(timeout);
    loop {
        if !condition(&mut guard) {
            return Ok((guard, WaitTimeoutResult { timed_out: false }));
        }
        if deadline.has_passed() {
            return Ok((guard, WaitTimeoutResult { timed_out: true }));
        }
        guard = wait_until(on, guard, Some(deadline))?.0;
    }
}

fn wait_until<'a, T: ShmSafe>(
    on: &impl Wait,
    guard: ShmMutexGuard<'a, T>,
    deadline: Option<Deadline>,
) -> WaitTimeoutLockResult<'a, T> {
    let (mutex, raw, held) = guard.into_parts();
    match on.wait_raw(raw, held, deadline) {
        Ok((held, result)) => mutex.guard(held).map(|guard| (guard, result)),
        Err(refusal) => Err(refusal.map_guard(|never| match never {})),
    }
}
