//! `ShmCondvar` and `PthreadCondvar`.

#[path = "../support/mod.rs"]
mod support;

mod deadlines;
mod or_recover;
mod suites;
mod waiting;
