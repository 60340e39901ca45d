//! Time: the clock that all processes of the machine share, and sleeping.

use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

/// Returns nanoseconds of [`CLOCK_MONOTONIC`], which is read without a system call.
///
/// [`CLOCK_MONOTONIC`]: https://man7.org/linux/man-pages/man2/clock_gettime.2.html
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

/// Sleeps for at least `time` and returns how long the sleep took.
pub(crate) fn sleep(time: Duration) -> Duration {
    let start = Instant::now();
    thread::sleep(time);
    start.elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_never_decreases() {
        let before = now();
        assert!(now() >= before);
    }
}
