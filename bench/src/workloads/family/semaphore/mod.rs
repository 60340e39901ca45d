//! Semaphore: acquire and release, by one thread and by two processes.

mod contestants;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use self::contestants::{Own, Posix, Semaphore, SystemV};
use super::{one_thread, together};
use crate::failure::Failure;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{Measure, Series};
use crate::shared::Shared;
use crate::workloads::busy_work::{Speed, busy_work};
use crate::workloads::rounds::{Entry, run_rounds};

/// Nanoseconds between acquire and release.
const WORK: u32 = 1_000;

pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let entries = vec![
        uncontended::<Own<1>>(one_thread::Batch::Long)?,
        uncontended::<Posix<1>>(one_thread::Batch::Long)?,
        uncontended::<SystemV<1>>(one_thread::Batch::Short)?,
    ];
    let mut series = run_rounds(
        plan,
        "semaphore",
        entries,
        one_thread::rounds(plan),
        progress,
    )?;
    let steps = Speed::measure().steps(WORK);
    let time = Duration::from_millis(plan.pick(40, 20));
    let entries = vec![
        two_processes::<Own<1>>(1, steps, time),
        two_processes::<Posix<1>>(1, steps, time),
        two_processes::<SystemV<1>>(1, steps, time),
        two_processes::<Own<2>>(2, steps, time),
        two_processes::<Posix<2>>(2, steps, time),
        two_processes::<SystemV<2>>(2, steps, time),
    ];
    series.extend(run_rounds(
        plan,
        "semaphore",
        entries,
        plan.pick(31, 5),
        progress,
    )?);
    Ok(series)
}

fn uncontended<S: Semaphore>(batch: one_thread::Batch) -> Result<Entry, Failure> {
    let semaphore = S::create()?;
    let operate = move || semaphore.with(|| ());
    let contestant = (S::NAME, S::SURVIVES);
    let table = "semaphore/uncontended";
    Ok(one_thread::entry(
        table,
        "acquire and release",
        contestant,
        batch,
        operate,
    ))
}

fn two_processes<S: Semaphore>(permits: usize, steps: u32, time: Duration) -> Entry {
    let column = if permits == 1 {
        "one permit"
    } else {
        "two permits"
    };
    Entry {
        workload: "semaphore/two processes".to_owned(),
        contestant: S::NAME,
        survives: S::SURVIVES,
        columns: vec![(column, Measure::OperationsPerSecond)],
        round: Box::new(move || Ok(vec![rate::<S>(permits, steps, time)?])),
    }
}

/// Returns how often per second two processes acquire, work and release.
fn rate<S: Semaphore>(permits: usize, steps: u32, time: Duration) -> Result<f64, Failure> {
    let semaphore = S::create()?;
    let counted = Shared::<AtomicU64>::zeroed()?;
    let done = together::run(S::NAME, 2, time, |_, number| {
        semaphore.with(|| {
            busy_work(number, steps);
            if permits == 1 {
                // A load and a store: two holders at the same time would lose updates.
                let count = counted.load(Ordering::Relaxed);
                counted.store(count + 1, Ordering::Relaxed);
            }
        })
    })?;
    let counted = counted.load(Ordering::Relaxed);
    if permits == 1 && counted != done.operations {
        return Err(Failure::WrongResult {
            contestant: S::NAME,
            what: format!("{} turns were done, {counted} counted", done.operations),
        });
    }
    Ok(done.per_second)
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    fn check<S: Semaphore>(permits: usize) -> Result<(), Failure> {
        assert!(rate::<S>(permits, 10, Duration::from_millis(5))? > 0.0);
        Ok(())
    }

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        check::<Own<1>>(1)?;
        check::<Own<2>>(2)?;
        check::<Posix<1>>(1)?;
        check::<Posix<2>>(2)?;
        check::<SystemV<1>>(1)?;
        check::<SystemV<2>>(2)
    }
}
