//! `ShmMutex`.

#[path = "../support/mod.rs"]
mod support;

mod c_peers;
mod deadlines;
mod locking;
mod or_recover;
mod poison;
mod priority_inheritance;
mod suites;
mod threads;
mod without_wiped_memory;
