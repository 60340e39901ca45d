//! Creating, opening and closing shared memory, by backing.
//!
//! shm-sync shows a segment to other processes only when it is complete, and checks it
//! when it opens it. The bare system calls are those of a short program: create, set
//! the length, map and store a number; or open, map and replace the number. They check
//! nothing. The careful system calls are those that are needed for the promises of
//! shm-sync ([`careful_calls`]). All write to the memory after they have opened it, as
//! every lock does.
//!
//! One process does all of it twenty times in a round, and the values are means. The
//! removal of the name at the end is not measured.

mod api;
mod careful_calls;
mod shared_memory;
mod system_calls;
mod this_crate;

use std::time::{Duration, Instant};

use self::api::{Backing, SharedMemoryApi};
use self::careful_calls::CarefulCalls;
use self::shared_memory::SharedMemory;
use self::system_calls::SystemCalls;
use self::this_crate::ShmSync;
use super::rounds::{Entry, run_rounds};
use crate::failure::Failure;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{Measure, Series};

/// The number of repetitions in a round.
const TIMES: u32 = 20;

/// Measures all backings.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let mut entries = Vec::new();
    for backing in Backing::ALL {
        entries.push(entry(backing, SystemCalls(backing)));
        entries.push(entry(backing, ShmSync(backing)));
        if backing != Backing::SystemV {
            entries.push(entry(backing, CarefulCalls(backing)));
        }
        if backing == Backing::Posix {
            entries.push(entry(backing, SharedMemory));
        }
    }
    let mut series = run_rounds(plan, "opening", entries, plan.pick(25, 5), progress)?;
    // An operation that does not exist took no time.
    series.retain(|series| series.rounds.iter().any(|&nanos| nanos > 0.0));
    Ok(series)
}

fn entry<M: SharedMemoryApi + 'static>(backing: Backing, memory: M) -> Entry {
    let columns = ["create", "open", "open or create", "close"];
    Entry {
        workload: backing.workload().to_owned(),
        contestant: M::NAME,
        survives: M::SURVIVES,
        columns: columns.map(|column| (column, Measure::Nanos)).into(),
        round: Box::new(move || {
            let mut times = Times::default();
            for _ in 0..TIMES {
                measure_once(&memory, &mut times)?;
            }
            Ok(times.means())
        }),
    }
}

/// The total times of the operations.
#[derive(Default)]
struct Times {
    create: Duration,
    open: Duration,
    open_or_create: Duration,
    close: Duration,
}

impl Times {
    /// Returns the mean nanoseconds of each operation, in the order of the columns.
    fn means(&self) -> Vec<f64> {
        [self.create, self.open, self.open_or_create, self.close]
            .map(|time| time.as_nanos() as f64 / f64::from(TIMES))
            .into()
    }
}

/// Measures each operation once and adds to `times`.
fn measure_once<M: SharedMemoryApi>(memory: &M, times: &mut Times) -> Result<(), Failure> {
    let first = timed(&mut times.create, || memory.create())?;
    let named = RemoveOnDrop(memory);
    let second = timed(&mut times.open, || memory.open(&first))?;
    timed(&mut times.close, || drop(second));
    let start = Instant::now();
    if let Some(third) = memory.open_or_create() {
        times.open_or_create += start.elapsed();
        drop(third?);
    }
    drop(first);
    std::mem::forget(named);
    memory.remove()
}

fn timed<R>(total: &mut Duration, f: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = f();
    *total += start.elapsed();
    result
}

/// Removes the name after a failure.
struct RemoveOnDrop<'a, M: SharedMemoryApi>(&'a M);

impl<M: SharedMemoryApi> Drop for RemoveOnDrop<'_, M> {
    fn drop(&mut self) {
        // The caller already returns a failure.
        let _ = self.0.remove();
    }
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    #[test]
    #[serial] // The names contain the process id only.
    fn smoke() -> Result<(), Failure> {
        for backing in Backing::ALL {
            let mut times = Times::default();
            measure_once(&SystemCalls(backing), &mut times)?;
            measure_once(&ShmSync(backing), &mut times)?;
            if backing != Backing::SystemV {
                measure_once(&CarefulCalls(backing), &mut times)?;
            }
            assert!(times.means().iter().all(|&nanos| nanos > 0.0) || backing == Backing::Memfd);
        }
        measure_once(&SharedMemory, &mut Times::default())
    }
}
