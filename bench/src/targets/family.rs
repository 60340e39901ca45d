//! The targets of the primitives beside the mutex and the condition variable. Each is a
//! ratio of two contestants in one column.

use super::target::{Bound, Run, Target};
use crate::series::{Measure, SHM_SYNC};

const POSIX: &str = "POSIX semaphore";
const SYSTEM_V: &str = "System V semaphore";
const MUTEX: &str = "ShmMutex";
const RWLOCK: &str = "pthread_rwlock";
const PIPE: &str = "pipe";
const ONE_TO_ONE: &str = "shm-sync 1 to 1";

/// A wanted ratio.
struct Wanted {
    column: &'static str,
    measure: Measure,
    over: &'static str,
    under: &'static str,
    bound: Bound,
}

const WANTED: &[Wanted] = &[
    time(
        "semaphore/uncontended/acquire and release",
        SHM_SYNC,
        POSIX,
        1.4,
    ),
    time(
        "semaphore/uncontended/acquire and release",
        SHM_SYNC,
        SYSTEM_V,
        0.1,
    ),
    rate("semaphore/two processes/one permit", SHM_SYNC, POSIX, 1.4),
    rate(
        "semaphore/two processes/one permit",
        SHM_SYNC,
        SYSTEM_V,
        3.0,
    ),
    time("rwlock/uncontended/read", SHM_SYNC, MUTEX, 1.35),
    time("rwlock/uncontended/read", SHM_SYNC, RWLOCK, 1.45),
    time("rwlock/uncontended/write", SHM_SYNC, RWLOCK, 2.2),
    rate("rwlock/two processes/reads", SHM_SYNC, RWLOCK, 3.0),
    rate(
        "rwlock/two processes/reads",
        SHM_SYNC,
        "shm-sync, one process",
        1.8,
    ),
    rate("rwlock/two processes/1 % writes", SHM_SYNC, RWLOCK, 2.5),
    rate("channel/messages/8 B", SHM_SYNC, PIPE, 2.2),
    rate("channel/messages/8 B", ONE_TO_ONE, PIPE, 3.5),
    rate("channel/messages/8 B", "shm-sync, 32 at a time", PIPE, 20.0),
    rate("channel/messages/1 KiB", SHM_SYNC, PIPE, 3.0),
    Wanted {
        measure: Measure::BytesPerSecond,
        ..rate("channel/bytes/64 KiB", SHM_SYNC, PIPE, 4.0)
    },
    time("channel/round trip/8 B", SHM_SYNC, PIPE, 0.1),
    time(
        "channel/round trip/8 B",
        SHM_SYNC,
        "crossbeam (threads)",
        1.3,
    ),
    time("published/64 bytes/read", SHM_SYNC, MUTEX, 0.6),
    time("published/64 bytes/replace", SHM_SYNC, MUTEX, 1.4),
    time("event/two/both running", SHM_SYNC, "pthread robust", 0.1),
    time(
        "barrier/two processes/both running",
        SHM_SYNC,
        "pthread_barrier",
        0.2,
    ),
];

/// Wants that an operation takes at most `bound` times as long.
const fn time(column: &'static str, over: &'static str, under: &'static str, bound: f64) -> Wanted {
    Wanted {
        column,
        measure: Measure::NanosPerOperation,
        over,
        under,
        bound: Bound::AtMost(bound),
    }
}

/// Wants at least `bound` times as many operations per second.
const fn rate(column: &'static str, over: &'static str, under: &'static str, bound: f64) -> Wanted {
    Wanted {
        column,
        measure: Measure::OperationsPerSecond,
        over,
        under,
        bound: Bound::AtLeast(bound),
    }
}

/// Returns the targets whose contestants were both measured.
pub(super) fn evaluate(run: Run<'_>) -> impl Iterator<Item = Target> {
    WANTED.iter().filter_map(move |wanted| {
        let Wanted {
            column,
            measure,
            over,
            under,
            bound,
        } = *wanted;
        let quantity = match measure {
            Measure::NanosPerOperation => "time",
            _ => "rate",
        };
        let what = format!("{column}: {quantity} of {over} / {under}");
        Target::ratio(what, bound, run.ratio(column, measure, over, under))
    })
}
