//! The clock of the rechecks: each waiter of the machine rechecks at the same instants.

use std::time::{Duration, Instant};

/// The time after which a waiter rechecks the lock at the latest: see docs/design.md.
/// All waiters of the machine recheck at the same multiples of it.
pub(crate) const RECHECK_INTERVAL: Duration = Duration::from_millis(150);

/// Returns the time on the clock of the rechecks, in nanoseconds.
fn monotonic_nanos() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is valid for writes during the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Returns how many rechecks have been due since the machine was started.
pub(crate) fn rechecks_due() -> u64 {
    monotonic_nanos() / RECHECK_INTERVAL.as_nanos() as u64
}

/// Returns the time until the next recheck.
pub(crate) fn time_to_recheck() -> Duration {
    let interval = RECHECK_INTERVAL.as_nanos() as u64;
    Duration::from_nanos(interval - monotonic_nanos() % interval)
}

/// Sleeps until the waiters of the machine have rechecked. Returns that time, or a
/// little before it.
pub(crate) fn sleep_past_recheck() -> Instant {
    let now = monotonic_nanos();
    let read = Instant::now();
    let interval = RECHECK_INTERVAL.as_nanos() as u64;
    let recheck = read + Duration::from_nanos(interval - now % interval);
    std::thread::sleep(recheck - read + Duration::from_millis(5));
    recheck
}
