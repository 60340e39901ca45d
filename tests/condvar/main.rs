//! `ShmCondvar` and `PthreadCondvar`.

#[path = "../support/mod.rs"]
mod support;

mod suites;
mod waiting;
