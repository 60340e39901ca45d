//! The tool `shm-sync`.

#![allow(clippy::incompatible_msrv, reason = "tests need a current compiler")]

#[path = "../../../tests/support/mod.rs"]
mod support;

mod run;

mod commands;
mod completions;
mod gc;
mod outputs;
mod terminal;
mod texts;
