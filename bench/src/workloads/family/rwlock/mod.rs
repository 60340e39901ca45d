//! Readers-writer lock: by one thread, and by one or two processes that mostly read.

mod contestants;
mod pthread;

use std::hint::black_box;
use std::time::Duration;

use self::contestants::{Mutex, Own, Pair, ReadersWriter};
use self::pthread::Pthread;
use super::{one_thread, together};
use crate::failure::Failure;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{Measure, Series};
use crate::workloads::rounds::{Entry, run_rounds};

/// What the processes do.
#[derive(Clone, Copy)]
struct Mix {
    column: &'static str,
    processes: usize,
    /// Each operation with a multiple of this number writes. `None`: all read.
    writes: Option<u64>,
}

const ONLY_READS: Mix = Mix {
    column: "reads",
    processes: 2,
    writes: None,
};

const MIXES: [Mix; 2] = [
    Mix {
        column: "1 % writes",
        processes: 2,
        writes: Some(100),
    },
    Mix {
        column: "10 % writes",
        processes: 2,
        writes: Some(10),
    },
];

/// A contestant in the column of the reads, for the ratio to two processes.
const ONE_PROCESS: &str = "shm-sync, one process";

pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let entries = vec![
        read::<Own>()?,
        read::<Mutex>()?,
        read::<Pthread>()?,
        write::<Own>()?,
        write::<Mutex>()?,
        write::<Pthread>()?,
    ];
    let mut series = run_rounds(plan, "rwlock", entries, one_thread::rounds(plan), progress)?;
    let time = Duration::from_millis(plan.pick(40, 20));
    let alone = Mix {
        processes: 1,
        ..ONLY_READS
    };
    let mut entries = vec![
        operations::<Own>(Own::NAME, ONLY_READS, time),
        operations::<Own>(ONE_PROCESS, alone, time),
        operations::<Mutex>(Mutex::NAME, ONLY_READS, time),
        operations::<Pthread>(Pthread::NAME, ONLY_READS, time),
    ];
    for mix in MIXES {
        entries.extend([
            operations::<Own>(Own::NAME, mix, time),
            operations::<Mutex>(Mutex::NAME, mix, time),
            operations::<Pthread>(Pthread::NAME, mix, time),
        ]);
    }
    series.extend(run_rounds(
        plan,
        "rwlock",
        entries,
        plan.pick(31, 5),
        progress,
    )?);
    Ok(series)
}

fn read<L: ReadersWriter>() -> Result<Entry, Failure> {
    let lock = L::create()?;
    let look = |pair: &Pair| {
        black_box(*pair);
    };
    Ok(uncontended::<L>("read", move || lock.read(look)))
}

fn write<L: ReadersWriter>() -> Result<Entry, Failure> {
    let lock = L::create()?;
    Ok(uncontended::<L>("write", move || lock.write(increment)))
}

fn uncontended<L: ReadersWriter>(
    column: &'static str,
    operate: impl FnMut() -> Result<(), Failure> + 'static,
) -> Entry {
    let contestant = (L::NAME, L::SURVIVES);
    let batch = one_thread::Batch::Long;
    one_thread::entry("rwlock/uncontended", column, contestant, batch, operate)
}

fn increment(pair: &mut Pair) {
    let [first, second] = black_box(pair);
    *first += 1;
    *second += 1;
}

fn operations<L: ReadersWriter>(contestant: &'static str, mix: Mix, time: Duration) -> Entry {
    Entry {
        workload: "rwlock/two processes".to_owned(),
        contestant,
        survives: L::SURVIVES,
        columns: vec![(mix.column, Measure::OperationsPerSecond)],
        round: Box::new(move || Ok(vec![rate::<L>(mix, time)?])),
    }
}

/// Returns how often per second the processes lock and unlock.
fn rate<L: ReadersWriter>(mix: Mix, time: Duration) -> Result<f64, Failure> {
    let lock = L::create()?;
    let done = together::run(L::NAME, mix.processes, time, |worker, number| {
        // The processes do not write at the same time.
        let is_write = |every: u64| (number + worker as u64 * every / 2).is_multiple_of(every);
        if mix.writes.is_some_and(is_write) {
            return lock.write(increment);
        }
        let mut is_whole = false;
        lock.read(|[first, second]| is_whole = first == second)?;
        if is_whole {
            return Ok(());
        }
        Err(Failure::WrongResult {
            contestant: L::NAME,
            what: "a reader saw different numbers, while a writer was inside".to_owned(),
        })
    })?;
    Ok(done.per_second)
}

#[cfg(test)]
mod tests {
    use serial_test::serial;

    use super::*;

    fn check<L: ReadersWriter>() -> Result<(), Failure> {
        for mix in MIXES.into_iter().chain([ONLY_READS]) {
            assert!(rate::<L>(mix, Duration::from_millis(5))? > 0.0);
        }
        Ok(())
    }

    #[test]
    #[serial]
    fn smoke() -> Result<(), Failure> {
        check::<Own>()?;
        check::<Mutex>()?;
        check::<Pthread>()
    }
}
