//! What the contestants have to do.

mod hand_over;
mod ipc;
mod rounds;

use crate::failure::Failure;
use crate::plan::{Plan, Progress};
use crate::report::Series;

/// Something to do, and who does it.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The contestant that the others are compared with.
    pub(crate) baseline: &'static str,
    pub(crate) run: fn(&Plan, &Progress) -> Result<Vec<Series>, Failure>,
}

/// All workloads, in the order in which they run.
pub(crate) const ALL: &[Workload] = &[
    Workload {
        name: "hand-over",
        about: "a lock with a condition variable: turns, calls, a ring",
        baseline: "raw pthread_cond_t",
        run: hand_over::run,
    },
    Workload {
        name: "ipc",
        about: "messages over what the system offers, and through shared memory",
        baseline: "pipe",
        run: ipc::run,
    },
];
