//! The method to improve on: a flag in shared memory, and `usleep(1000)` for as long as
//! it is set, next to a lock and a condition.
//!
//! * **Hand-over**: two processes pass a turn to and fro. Nanoseconds for one.
//! * **Counters**: two and four processes count, with the short and the long section of
//!   the workload `contended`. No update may be lost. Who has just unlocked finds the flag
//!   clear most often, and the others asleep, which makes for many operations: see the
//!   fairness, and the longest waits.

use shm_sync::ShmCondvar;

use super::contended::{Millis, Section, turn_of};
use super::hand_over::running;
use super::rounds::{Entry, take_turns};
use crate::contestants::{Lock, PolledFlag, Pthread, Robust, ShmSync};
use crate::failure::Failure;
use crate::monitors::{self, Ours, PolledTurn, Sleeping, Turns};
use crate::plan::{Plan, Progress};
use crate::report::{Measure, Series};

/// Measures the old and the new.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let millis = plan.pick(100, 40);
    // A polled turn takes a thousand times as long, so it is passed less often.
    let share = plan.pick(1, 5);
    let mut entries = vec![
        turns::<PolledTurn<Sleeping>>(50 * share),
        turns::<monitors::Pthread>(share),
        turns::<Ours<ShmCondvar>>(share),
    ];
    for section in [Section::Short, Section::Long] {
        for (label, workers) in [("2 processes", 2), ("4 processes", 4)] {
            entries.extend([
                counters::<PolledFlag>(section, label, workers, millis),
                counters::<Pthread<Robust>>(section, label, workers, millis),
                counters::<ShmSync>(section, label, workers, millis),
            ]);
        }
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

fn counters<L: Lock>(section: Section, label: &'static str, workers: usize, millis: u64) -> Entry {
    let millis = Millis {
        counted: millis,
        clocked: millis,
    };
    let turn = turn_of::<L>(section, workers, millis);
    Entry {
        workload: format!("baseline/counters with {} section", section.name()),
        contestant: L::PROFILE.name,
        survives: L::PROFILE.survives,
        columns: vec![
            (label, Measure::OperationsPerSecond),
            (label, Measure::MinShareOfMax),
            (label, Measure::LatencyP99),
            (label, Measure::LatencyP999),
        ],
        round: Box::new(move || Ok(turn()?.to_vec())),
    }
}
