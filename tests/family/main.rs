//! `ShmEvent`, `ShmSemaphore`, `ShmLifeline` and `Lifelines`, `Published`,
//! `ShmOnceLock`.

#[path = "../support/mod.rs"]
mod support;

mod event;
mod lifeline;
mod placement;
mod published;
mod semaphore;
