//! `Segment`: every kind of backing, from its creation to its removal.

#[path = "../support/mod.rs"]
mod support;

mod addresses;
mod attachment;
mod backings;
mod containers;
mod contents;
mod create_open;
mod descriptors;
mod errors;
mod file_systems;
mod foreign_memory;
mod guarded_slices;
mod hostile;
mod memfd;
mod missing_calls;
mod read_only;
mod readers;
mod refusals;
mod reinit;
mod removal;
mod reuse;
mod system_v;
