//! Hand-over: one process changes something, another one waits for it.
//!
//! * **Both running**: two workers pass a turn to and fro as fast as they can, each on a
//!   processor of its own. Nanoseconds for one hand-over.
//! * **Both asleep**: the same, but whoever gets the turn keeps it for a millisecond, so
//!   that the other one has gone to sleep. Nanoseconds from before the turn is given
//!   until the other one has it, which had to be woken.
//! * **Eight waiters**: nine workers. One of them calls, all by `notify_all`, or one
//!   after the other by eight times `notify_one`, and waits until eight answers have been
//!   given. Nanoseconds for one call with its answers.
//! * **Ring**: a producer and a consumer with a ring of 64 places between them, and one
//!   condition for each. Nanoseconds per item.
//!
//! Everybody notifies while holding the lock. The workers are processes, except those of
//! `std::sync`, which are threads.

mod plays;

pub(super) use self::plays::running;

use shm_sync::{PthreadCondvar, ShmCondvar};

use super::rounds::{Entry, take_turns};
use crate::failure::Failure;
use crate::monitors::{
    Boost, Monitor, Ours, PolledTurn, Pthread, Semaphores, Spinning, Standard, Turns,
};
use crate::plan::{Plan, Progress};
use crate::report::{Measure, Series};

/// Measures all hand-overs.
pub(crate) fn run(plan: &Plan, progress: &Progress) -> Result<Vec<Series>, Failure> {
    let share = plan.pick(1, 5);
    // They are short, and how fast one wakes differs from round to round.
    let two = vec![
        both_running::<Pthread>(share),
        both_running::<Ours<ShmCondvar>>(share),
        both_running::<Ours<PthreadCondvar>>(share),
        both_running::<Boost>(share),
        both_running::<Semaphores>(share),
        both_running::<Standard>(share),
        both_running::<PolledTurn<Spinning>>(share),
        both_asleep::<Pthread>(share),
        both_asleep::<Ours<ShmCondvar>>(share),
        both_asleep::<Ours<PthreadCondvar>>(share),
        both_asleep::<Boost>(share),
        both_asleep::<Semaphores>(share),
        both_asleep::<Standard>(share),
    ];
    let mut series = take_turns("hand-over", two, plan.pick(45, 3), progress)?;
    let mut more = vec![];
    for play in [Play::CallAll, Play::CallEach, Play::Ring] {
        more.extend([
            monitor::<Pthread>(play, share),
            monitor::<Ours<ShmCondvar>>(play, share),
            monitor::<Ours<PthreadCondvar>>(play, share),
            monitor::<Boost>(play, share),
            monitor::<Standard>(play, share),
        ]);
    }
    series.extend(take_turns("hand-over", more, plan.pick(9, 3), progress)?);
    Ok(series)
}

fn both_running<T: Turns + 'static>(share: usize) -> Entry {
    Entry {
        workload: "hand-over/two".to_owned(),
        contestant: T::NAME,
        survives: T::SURVIVES,
        columns: vec![("both running", Measure::NanosPerOperation)],
        round: Box::new(move || Ok(vec![running::<T>(share)?])),
    }
}

fn both_asleep<T: Turns + 'static>(share: usize) -> Entry {
    Entry {
        workload: "hand-over/two".to_owned(),
        contestant: T::NAME,
        survives: T::SURVIVES,
        columns: vec![
            ("both asleep", Measure::NanosPerOperation),
            ("both asleep: 99 % are below", Measure::NanosPerOperation),
        ],
        round: Box::new(move || Ok(plays::asleep::<T>(share)?.to_vec())),
    }
}

/// What a lock with two conditions is for.
#[derive(Clone, Copy)]
enum Play {
    CallAll,
    CallEach,
    Ring,
}

fn monitor<M: Monitor + 'static>(play: Play, share: usize) -> Entry {
    let (workload, column) = match play {
        Play::CallAll => ("hand-over/eight waiters", "notify_all"),
        Play::CallEach => ("hand-over/eight waiters", "eight times notify_one"),
        Play::Ring => ("hand-over/producer and consumer", "ring of 64"),
    };
    Entry {
        workload: workload.to_owned(),
        contestant: <M as Monitor>::NAME,
        survives: <M as Monitor>::SURVIVES,
        columns: vec![(column, Measure::NanosPerOperation)],
        round: Box::new(move || {
            Ok(vec![match play {
                Play::CallAll => plays::call_all::<M>(share)?,
                Play::CallEach => plays::call_each::<M>(share)?,
                Play::Ring => plays::ring::<M>(share)?,
            }])
        }),
    }
}
