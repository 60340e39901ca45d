//! The tool `shm-sync`.

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod texts;
