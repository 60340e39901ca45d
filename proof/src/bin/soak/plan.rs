//! The plan of a soak: what it runs, and when it ends.

use std::time::Duration;

use crate::condvar::CondvarKind;

/// The end of the soak: after this time, or after this number of kills.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Time(Duration),
    Kills(u64),
}

/// The settings of the soak.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) limit: Limit,
    pub(crate) seed: u64,
    pub(crate) workers: usize,
    pub(crate) condvar: CondvarKind,
    /// The mutexes of the ledger, the queue and the scenarios have priority
    /// inheritance.
    pub(crate) priority_inheritance: bool,
    /// The time within which each worker must make progress, at a checkpoint.
    pub(crate) timeout: Duration,
}
