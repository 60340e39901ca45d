//! Waiting, and measuring how long a call takes.

use std::time::{Duration, Instant};

/// Polls until `done` returns `true`. The watchdog of the stage is the limit.
pub fn poll(mut done: impl FnMut() -> bool) {
    while !done() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Returns the median of the times that `measure` returns in an odd number of runs.
pub fn median(runs: usize, measure: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = std::iter::repeat_with(measure).take(runs).collect();
    times.sort();
    times[runs / 2]
}

/// Returns how long `f` takes.
pub fn time(f: impl FnOnce()) -> Duration {
    let start = Instant::now();
    f();
    start.elapsed()
}
