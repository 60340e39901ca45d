//! `ShmEvent`, `ShmSemaphore`, `ShmLifeline` and `Lifelines`.

#[path = "../support/mod.rs"]
mod support;

mod event;
mod lifeline;
mod placement;
mod semaphore;
