//! `ShmEvent`, `ShmSemaphore`, `ShmLifeline`, `Lifelines` and `ShmRwLock`.

#[path = "../support/mod.rs"]
mod support;

mod event;
mod lifeline;
mod placement;
mod rwlock;
mod semaphore;
