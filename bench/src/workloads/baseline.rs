//! The method that this crate replaces: a polled flag with `usleep(1000)`, beside a
//! lock and a condition variable.
//!
//! * **Hand-over**: two processes pass a turn to each other. The unit is nanoseconds
//!   per hand-over.
//! * **Counters**: two and four processes count, with the short and the long section of
//!   the workload `contended`. No update may be lost. The process that has just
//!   unlocked usually locks again, because the others sleep. Therefore the flag has
//!   many operations, little fairness and long waits.

use shm_sync::ShmCondvar;

use super::contended::measure_once;
use super::contended::section::{Millis, Section};
use super::hand_over::{Placement, running};
use super::rounds::{Entry, run_rounds};
use crate::contestants::{Lock, PolledFlag, Pthread, Robust, ShmSync};
use crate::failure::Failure;
use crate::monitors::{self, HandOver, PolledTurn, ShmMonitor, Sleeping};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{Measure, Series};

pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let millis = plan.pick(100, 40);
    // A polled turn takes a thousand times as long, so it has fewer trips.
    let share = plan.pick(1, 5);
    let mut entries = vec![
        turns::<PolledTurn<Sleeping>>(50 * share),
        turns::<monitors::Pthread>(share),
        turns::<ShmMonitor<ShmCondvar>>(share),
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
    run_rounds(plan, "baseline", entries, plan.pick(9, 3), progress)
}

fn turns<T: HandOver + 'static>(share: usize) -> Entry {
    Entry {
        workload: "baseline/turns".to_owned(),
        contestant: T::NAME,
        survives: T::SURVIVES,
        columns: vec![("hand-over", Measure::NanosPerOperation)],
        round: Box::new(move || Ok(vec![running::<T>(Placement::TwoProcessors, share)?])),
    }
}

fn counters<L: Lock>(section: Section, label: &'static str, workers: usize, millis: u64) -> Entry {
    let millis = Millis {
        counted: millis,
        clocked: millis,
    };
    let measure = measure_once::<L>(section, workers, millis);
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
        round: Box::new(move || Ok(measure()?.to_vec())),
    }
}
