//! What the contestants have to do.

pub(crate) mod contended;
mod uncontended;

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
        name: "uncontended",
        about: "a free lock: lock, add one, unlock",
        baseline: "pthread robust",
        run: uncontended::run,
    },
    Workload {
        name: "contended",
        about: "a lock that 2 to 64 processes want, with short, medium and long sections",
        baseline: "pthread robust",
        run: contended::run,
    },
];
