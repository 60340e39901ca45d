//! The method to improve on: a flag in shared memory, and `usleep(1000)` for as long as
//! it is set, next to a lock and a condition.
//!
//! * **Hand-over**: two processes pass a turn to and fro. Nanoseconds for one.
//! * **Counters**: two and four processes lock, add one and unlock, with a microsecond of
//!   other work after each. How often they do together, how evenly, and how long the one
//!   that has it worst waits for the lock. No update may be lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use shm_sync::ShmCondvar;

use super::hand_over::running;
use super::rounds::{Entry, take_turns};
use crate::clock::now;
use crate::contestants::{Lock, PolledFlag, Pthread, Robust, ShmSync};
use crate::crew::{self, Worker};
use crate::failure::Failure;
use crate::monitors::{self, Ours, PolledTurn, Turns};
use crate::plan::{Plan, Progress};
use crate::report::{Measure, Series};
use crate::shared::{Shared, Zeroed};
use crate::stats::quantile;

/// Nanoseconds between unlocking and locking again.
const OTHER_WORK: u64 = 1000;

/// How many waits a worker remembers; more than it has time for.
const WAITS: usize = 200_000;

/// The largest number of workers.
const MOST: usize = 4;

/// Measures the old and the new.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let time = plan.pick(Duration::from_millis(100), Duration::from_millis(40));
    // A polled turn takes a thousand times as long, so it is passed less often.
    let share = plan.pick(1, 5);
    let mut entries = vec![
        turns::<PolledTurn>(50 * share),
        turns::<monitors::Pthread>(share),
        turns::<Ours<ShmCondvar>>(share),
    ];
    for (label, workers) in [("2 processes", 2), ("4 processes", MOST)] {
        entries.extend([
            counters::<PolledFlag>(label, workers, time),
            counters::<Pthread<Robust>>(label, workers, time),
            counters::<ShmSync>(label, workers, time),
        ]);
    }
    take_turns("baseline", entries, plan.pick(9, 3), progress)
}

fn turns<T: Turns + 'static>(share: usize) -> Entry {
    Entry {
        workload: "baseline/turns".to_owned(),
        contestant: T::NAME,
        survives: T::SURVIVES,
        columns: vec![("hand-over", Measure::NanosPerOperation)],
        round: Box::new(move || Ok(vec![running::<T>(share)?])),
    }
}

fn counters<L: Lock>(label: &'static str, workers: usize, time: Duration) -> Entry {
    Entry {
        workload: "baseline/counters".to_owned(),
        contestant: L::PROFILE.name,
        survives: L::PROFILE.survives,
        columns: vec![
            (label, Measure::OperationsPerSecond),
            (label, Measure::MinShareOfMax),
            (label, Measure::LatencyP50),
            (label, Measure::LatencyP99),
        ],
        round: Box::new(move || Ok(count::<L>(workers, time)?.to_vec())),
    }
}

/// What a worker has to say.
#[repr(C)]
struct Tally {
    count: AtomicU64,
    /// Nanoseconds to get the lock: the median, and what 99 % are below.
    median: AtomicU64,
    most: AtomicU64,
}

#[repr(C)]
struct Board {
    stop: AtomicBool,
    tallies: [Tally; MOST],
}

// SAFETY: it consists of atomic values, for which zeros are values.
unsafe impl Zeroed for Board {}

/// Counts per second, the smallest share of the largest, and the waits of the worker that
/// waits longest.
fn count<L: Lock>(workers: usize, time: Duration) -> Result<[f64; 4], Failure> {
    let mut lock = L::make()?;
    let board = Shared::<Board>::zeroed()?;
    let work = |worker: &mut Worker| {
        lock.join()?;
        let mut waits = Vec::with_capacity(WAITS);
        worker.start()?;
        while !board.stop.load(Ordering::Relaxed) && waits.len() < WAITS {
            let came = now();
            let got = lock.with(|count| {
                *count += 1;
                now()
            });
            waits.push((got - came) as f64);
            while now() < got + OTHER_WORK {}
        }
        waits.sort_by(f64::total_cmp);
        let Tally {
            count,
            median,
            most,
        } = &board.tallies[worker.index];
        count.store(waits.len() as u64, Ordering::Relaxed);
        median.store(quantile(&waits, 0.5) as u64, Ordering::Relaxed);
        most.store(quantile(&waits, 0.99) as u64, Ordering::Relaxed);
        Ok(())
    };
    let took = crew::processes(L::PROFILE.name, workers, work, || {
        let took = crew::sleep(time);
        board.stop.store(true, Ordering::Relaxed);
        took
    })?;

    let tallies = &board.tallies[..workers];
    let all = |of: fn(&Tally) -> &AtomicU64| tallies.iter().map(move |tally| of(tally).load(Ordering::Relaxed));
    let sum: u64 = all(|tally| &tally.count).sum();
    let counted = lock.with(|count| *count);
    if counted != sum {
        return Err(Failure::Wrong {
            contestant: L::PROFILE.name,
            what: format!("counted {counted} of {sum}"),
        });
    }
    let extreme = |value: Option<u64>| value.unwrap_or(0) as f64;
    Ok([
        sum as f64 / took.as_secs_f64(),
        extreme(all(|tally| &tally.count).min()) / extreme(all(|tally| &tally.count).max()),
        extreme(all(|tally| &tally.median).max()),
        extreme(all(|tally| &tally.most).max()),
    ])
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        let time = Duration::from_millis(20);
        for counts in [
            count::<PolledFlag>(2, time)?,
            count::<ShmSync>(MOST, time)?,
        ] {
            let [per_second, share, median, most] = counts;
            assert!(per_second > 0.0 && (0.0..=1.0).contains(&share), "{counts:?}");
            assert!(median <= most, "{counts:?}");
        }
        assert!(running::<PolledTurn>(200)? > 1e6);
        Ok(())
    }
}
