//! Hand-over: a process changes a state that another process waits for.
//!
//! * **Both running**: two workers pass a turn to each other as fast as they can, each
//!   on its own processor. The unit is nanoseconds per hand-over.
//! * **Both asleep**: a worker keeps the turn for a millisecond, so that the other
//!   worker falls asleep. The time is from before the worker passes the turn until the
//!   other one, which has to be woken, has it.
//! * **Eight waiters**: one worker calls eight others, by one `notify_all` or by eight
//!   `notify_one`, and waits for eight answers. The unit is nanoseconds per call with
//!   its answers.
//! * **Ring**: a producer and a consumer share a ring of 64 places, with a condition
//!   variable for each. The unit is nanoseconds per item.
//!
//! Workers notify while they hold the lock. They are processes, except those of
//! `std::sync`, which are threads.

mod scenarios;

pub(super) use self::scenarios::running;

use shm_sync::{PthreadCondvar, ShmCondvar};

use super::rounds::{Entry, run_rounds};
use crate::failure::Failure;
use crate::monitors::{
    Boost, HandOver, Monitor, PolledTurn, Pthread, Semaphores, ShmMonitor, Spinning, Standard,
};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{Measure, Series};

/// Measures all hand-overs.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let share = plan.pick(1, 5);
    // The rounds are short, and the time of a wake-up varies between rounds. Therefore
    // there are many rounds.
    let two = vec![
        both_running::<Pthread>(share),
        both_running::<ShmMonitor<ShmCondvar>>(share),
        both_running::<ShmMonitor<PthreadCondvar>>(share),
        both_running::<Boost>(share),
        both_running::<Semaphores>(share),
        both_running::<Standard>(share),
        both_running::<PolledTurn<Spinning>>(share),
        both_asleep::<Pthread>(share),
        both_asleep::<ShmMonitor<ShmCondvar>>(share),
        both_asleep::<ShmMonitor<PthreadCondvar>>(share),
        both_asleep::<Boost>(share),
        both_asleep::<Semaphores>(share),
        both_asleep::<Standard>(share),
    ];
    let mut series = run_rounds(plan, "hand-over", two, plan.pick(45, 3), progress)?;
    let mut more = vec![];
    for scenario in [Scenario::CallAll, Scenario::CallEach, Scenario::Ring] {
        more.extend([
            monitor::<Pthread>(scenario, share),
            monitor::<ShmMonitor<ShmCondvar>>(scenario, share),
            monitor::<ShmMonitor<PthreadCondvar>>(scenario, share),
            monitor::<Boost>(scenario, share),
            monitor::<Standard>(scenario, share),
        ]);
    }
    series.extend(run_rounds(
        plan,
        "hand-over",
        more,
        plan.pick(9, 3),
        progress,
    )?);
    Ok(series)
}

fn both_running<T: HandOver + 'static>(share: usize) -> Entry {
    Entry {
        workload: "hand-over/two".to_owned(),
        contestant: T::NAME,
        survives: T::SURVIVES,
        columns: vec![("both running", Measure::NanosPerOperation)],
        round: Box::new(move || Ok(vec![running::<T>(share)?])),
    }
}

fn both_asleep<T: HandOver + 'static>(share: usize) -> Entry {
    Entry {
        workload: "hand-over/two".to_owned(),
        contestant: T::NAME,
        survives: T::SURVIVES,
        columns: vec![
            ("both asleep", Measure::NanosPerOperation),
            ("both asleep: 99 % are below", Measure::NanosPerOperation),
        ],
        round: Box::new(move || Ok(scenarios::asleep::<T>(share)?.to_vec())),
    }
}

/// A scenario for a lock with two condition variables.
#[derive(Clone, Copy)]
enum Scenario {
    CallAll,
    CallEach,
    Ring,
}

fn monitor<M: Monitor + 'static>(scenario: Scenario, share: usize) -> Entry {
    let (workload, column) = match scenario {
        Scenario::CallAll => ("hand-over/eight waiters", "notify_all"),
        Scenario::CallEach => ("hand-over/eight waiters", "eight times notify_one"),
        Scenario::Ring => ("hand-over/producer and consumer", "ring of 64"),
    };
    Entry {
        workload: workload.to_owned(),
        contestant: <M as Monitor>::NAME,
        survives: <M as Monitor>::SURVIVES,
        columns: vec![(column, Measure::NanosPerOperation)],
        round: Box::new(move || {
            Ok(vec![match scenario {
                Scenario::CallAll => scenarios::call_all::<M>(share)?,
                Scenario::CallEach => scenarios::call_each::<M>(share)?,
                Scenario::Ring => scenarios::ring::<M>(share)?,
            }])
        }),
    }
}
