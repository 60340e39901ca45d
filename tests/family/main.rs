//! `ShmEvent`, `ShmSemaphore`, `ShmLifeline`, `Lifelines`, `ShmRwLock`, `Published`,
//! `ShmOnceLock`.

#[path = "../support/mod.rs"]
mod support;

mod event;
mod lifeline;
mod placement;
mod published;
mod rwlock;
mod semaphore;
