//! `ShmEvent`, `ShmSemaphore`, `ShmLifeline`, `Lifelines` and `ShmChannel`.

#[path = "../support/mod.rs"]
mod support;

mod channel;
mod event;
mod lifeline;
mod placement;
mod semaphore;
