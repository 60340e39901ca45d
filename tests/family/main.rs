//! The primitives beside the mutex and the condition variables.

#[path = "../support/mod.rs"]
mod support;

mod barrier;
mod channel;
mod event;
mod lifeline;
mod pipe;
mod placement;
mod published;
mod rwlock;
mod semaphore;
