//! Operations that processes repeat at the same time, until they are stopped.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::failure::Failure;
use crate::shared::{Shared, Zeroed};
use crate::workers::{self, Worker};
use crate::{affinity, clock};

/// The largest number of processes.
const MOST: usize = 2;

/// What the processes share, besides what they operate on.
struct Control {
    stop: Line<AtomicBool>,
    operations: [Line<AtomicU64>; MOST],
}

/// A value on cache lines of its own.
#[repr(align(128))]
struct Line<T>(T);

// SAFETY: zeros are valid numbers and a valid bool; neither refers to a process.
unsafe impl Zeroed for Control {}

/// What the processes have done.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) operations: u64,
    pub(super) per_second: f64,
}

/// Lets `workers` processes repeat an operation, which gets the index of its process
/// and the number of its call. Each process has its own processor.
pub(super) fn run(
    contestant: &str,
    workers: usize,
    time: Duration,
    operate: impl Fn(usize, u64) -> Result<(), Failure>,
) -> Result<Done, Failure> {
    assert!(workers <= MOST, "there is a counter for each process");
    let control = Shared::<Control>::zeroed()?;
    let work = |worker: &mut Worker| {
        affinity::pin(worker.index)?;
        worker.start()?;
        let mut done = 0;
        while !control.stop.0.load(Ordering::Relaxed) {
            operate(worker.index, done)?;
            done += 1;
        }
        let operations = &control.operations[worker.index].0;
        operations.store(done, Ordering::Relaxed);
        Ok(())
    };
    let took = workers::run_processes(contestant, workers, work, || {
        let took = clock::sleep(time);
        control.stop.0.store(true, Ordering::Relaxed);
        took
    })?;
    let each = control.operations.iter();
    let operations = each.map(|line| line.0.load(Ordering::Relaxed)).sum();
    Ok(Done {
        operations,
        per_second: operations as f64 / took.as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        let counted = Shared::<AtomicU64>::zeroed()?;
        let done = run("a test", 2, Duration::from_millis(5), |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
        assert_eq!(done.operations, counted.load(Ordering::Relaxed));
        assert!(done.per_second > 0.0);
        Ok(())
    }
}
