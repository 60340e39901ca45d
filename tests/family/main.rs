//! `ShmEvent`, `ShmSemaphore`, `ShmLifeline`, `Lifelines`, `ShmChannel` and `ShmPipe`.

#[path = "../support/mod.rs"]
mod support;

mod channel;
mod event;
mod lifeline;
mod pipe;
mod placement;
mod semaphore;
