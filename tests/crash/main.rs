//! Processes killed at chosen and at random points. These tests take longest.

#[path = "../support/mod.rs"]
mod support;

#[path = "../../proof/src/results.rs"]
mod results;

mod barrier_instructions;
mod channel_end;
mod channel_instructions;
mod channel_storm;
mod collections;
mod create_open_remove;
mod every_instruction;
mod family_instructions;
mod family_results;
mod family_storm;
mod lock_storm;
mod lost_wakeups;
mod model;
mod name_storm;
mod out_of_memory;
mod rwlock_instructions;
mod rwlock_storm;
mod scene;
mod storm;
mod tables;
mod values;
