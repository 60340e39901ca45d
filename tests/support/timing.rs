//! Waiting, and measuring how long a call takes.

use std::time::{Duration, Instant};

/// Looks again and again, until `done`. The stage's watchdog is the limit.
pub fn poll(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The median of the times that `measure` returns in some runs: an odd number.
pub fn median(runs: usize, measure: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = std::iter::repeat_with(measure).take(runs).collect();
    times.sort();
    times[runs / 2]
}

/// How long `f` takes.
pub fn time(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}
