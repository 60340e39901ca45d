//! What the contestants have to do.

mod baseline;
pub(crate) mod contended;
mod hand_over;
mod idle;
mod ipc;
mod memory;
mod opening;
mod recovery;
mod rounds;
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
    Workload {
        name: "hand-over",
        about: "a lock with a condition: two who take turns, eight who are called, a ring",
        baseline: "pthread robust",
        run: hand_over::run,
    },
    Workload {
        name: "baseline",
        about: "a polled flag, which is the method to improve on",
        baseline: "flag + usleep(1000)",
        run: baseline::run,
    },
    Workload {
        name: "recovery",
        about: "a holder is killed: how long until the next one has the lock",
        baseline: "pthread robust",
        run: recovery::run,
    },
    Workload {
        name: "idle",
        about: "the processor time of those who only sleep",
        baseline: "pthread robust",
        run: idle::run,
    },
    Workload {
        name: "opening",
        about: "to create, open and close shared memory",
        baseline: "bare system calls",
        run: opening::run,
    },
    Workload {
        name: "memory",
        about: "the size of a lock, and a million locks in one segment",
        baseline: "pthread robust",
        run: memory::run,
    },
    Workload {
        name: "ipc",
        about: "messages over what the system offers, and through shared memory",
        baseline: "pipe",
        run: ipc::run,
    },
];
