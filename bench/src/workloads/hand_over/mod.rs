//! Hand-over: a process changes a state that another process waits for.
//!
//! * **Both running**: two workers pass a turn to each other as fast as they can, each
//!   on its own processor. The unit is nanoseconds per hand-over.
//! * **On one processor**: the same, with both workers on one processor.
//! * **Both asleep**: a worker keeps the turn for a millisecond, so that the other
//!   worker falls asleep. The time is from before the worker passes the turn until the
//!   other one, which has to be woken, has it.
//! * **`notify_all`**: one worker calls eight or 32 others and waits for their answers.
//!   Each works for 5 µs under the lock, or not at all. The units are nanoseconds per
//!   call with its answers, and context switches of all workers. There is at least one
//!   for each worker.
//! * **Eight waiters**: the same with eight `notify_one`.
//! * **Ring**: a producer and a consumer share a ring of 64 places, with a condition
//!   variable for each. The unit is nanoseconds per item.
//!
//! Workers notify while they hold the lock. They are processes, except those of
//! `std::sync`, which are threads.

mod scenarios;

pub(super) use self::scenarios::{Placement, running};

use shm_sync::{PthreadCondvar, ShmCondvar};

use super::busy_work::Speed;
use super::rounds::{Entry, run_rounds};
use crate::failure::Failure;
use crate::monitors::{
    Boost, HandOver, Monitor, Pipes, PolledTurn, Pthread, Semaphores, ShmMonitor, SpinLock,
    Spinning, Standard, TimedPthread,
};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::{Measure, Series};

/// Measures all hand-overs.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let share = plan.pick(1, 5);
    // The rounds are short, and the time of a wake-up varies between rounds. Therefore
    // there are many rounds.
    let mut two = vec![];
    for placement in [Placement::TwoProcessors, Placement::OneProcessor] {
        two.extend([
            both_running::<Pthread>(placement, share),
            both_running::<ShmMonitor<ShmCondvar>>(placement, share),
            both_running::<ShmMonitor<PthreadCondvar>>(placement, share),
            both_running::<Boost>(placement, share),
            both_running::<Semaphores>(placement, share),
            both_running::<Pipes>(placement, share),
            both_running::<Standard>(placement, share),
        ]);
    }
    two.extend([
        both_running::<PolledTurn<Spinning>>(Placement::TwoProcessors, share),
        both_running::<SpinLock>(Placement::TwoProcessors, share),
        both_asleep::<Pthread>(share),
        both_asleep::<ShmMonitor<ShmCondvar>>(share),
        both_asleep::<ShmMonitor<PthreadCondvar>>(share),
        both_asleep::<Boost>(share),
        both_asleep::<Semaphores>(share),
        both_asleep::<Pipes>(share),
        both_asleep::<Standard>(share),
    ]);
    let mut series = run_rounds(plan, "hand-over", two, plan.pick(45, 3), progress)?;
    let mut more = vec![];
    let work = Speed::measure().steps(5_000);
    let calls = [
        call("8 waiters", 8, 0),
        call("8 waiters, 5 µs", 8, work),
        call("32 waiters", 32, 0),
        call("32 waiters, 5 µs", 32, work),
    ];
    for scenario in calls
        .into_iter()
        .chain([Scenario::CallEach, Scenario::Ring])
    {
        more.extend([
            monitor::<Pthread>(scenario, share),
            monitor::<TimedPthread>(scenario, share),
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

fn both_running<T: HandOver + 'static>(placement: Placement, share: usize) -> Entry {
    let column = match placement {
        Placement::TwoProcessors => "both running",
        Placement::OneProcessor => "on one processor",
    };
    Entry {
        workload: "hand-over/two".to_owned(),
        contestant: T::NAME,
        survives: T::SURVIVES,
        columns: vec![(column, Measure::NanosPerOperation)],
        round: Box::new(move || Ok(vec![running::<T>(placement, share)?])),
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
    CallAll {
        column: &'static str,
        waiters: u64,
        /// The work of each waiter under the lock, in steps of `busy_work`.
        work: u32,
    },
    CallEach,
    Ring,
}

fn call(column: &'static str, waiters: u64, work: u32) -> Scenario {
    Scenario::CallAll {
        column,
        waiters,
        work,
    }
}

fn monitor<M: Monitor + 'static>(scenario: Scenario, share: usize) -> Entry {
    let time = Measure::NanosPerOperation;
    let (workload, columns) = match scenario {
        Scenario::CallAll { column, .. } => (
            "hand-over/notify_all",
            vec![(column, time), (column, Measure::Switches)],
        ),
        Scenario::CallEach => (
            "hand-over/eight waiters",
            vec![("eight times notify_one", time)],
        ),
        Scenario::Ring => (
            "hand-over/producer and consumer",
            vec![("ring of 64", time)],
        ),
    };
    Entry {
        workload: workload.to_owned(),
        contestant: <M as Monitor>::NAME,
        survives: <M as Monitor>::SURVIVES,
        columns,
        round: Box::new(move || match scenario {
            Scenario::CallAll { waiters, work, .. } => {
                Ok(scenarios::call_all::<M>(waiters, work, share)?.to_vec())
            }
            Scenario::CallEach => Ok(vec![scenarios::call_each::<M>(share)?]),
            Scenario::Ring => Ok(vec![scenarios::ring::<M>(share)?]),
        }),
    }
}
