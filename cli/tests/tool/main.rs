//! The tool `shm-sync`.

#[path = "../../../tests/support/mod.rs"]
mod support;

mod run;

mod commands;
mod completions;
mod export;
mod gc;
mod outputs;
mod terminal;
mod texts;
mod values;
