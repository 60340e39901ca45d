//! `ShmCondvar` and `PthreadCondvar`.

#[path = "../support/mod.rs"]
mod support;

mod deadlines;
mod or_recover;
mod rechecks;
mod suites;
mod under_lock;
mod waiting;
