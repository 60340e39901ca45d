//! The models of the mutex and of the condition variable, with deaths at any step.
//!
//! | model | what it has | what it relies on |
//! |---|---|---|
//! | `mutex` | lock word, robust list, kernel, holder, poison, data | the kernel's futexes |
//! | `pi_mutex` | the mutex with priority inheritance: lock word, robust list, the kernel's queue, a reader that waits on the word | the kernel's futexes |
//! | `condvar` | sequence, generation, waiters, deferred wake-ups, waiters moved to the lock word, recheck, notification of an owner death | the mutex, as its model shows it |
//! | `event_count` | roll of announcements, sequence, vain wakes, recheck, a watched seat | the kernel's futexes and robust lists |
//! | `channel` | ring, two indices, locks or single seats, sleepers on both sides, the end of the other side | the mutex and the event count, as their models show them |
//! | `rwlock` | seats of readers, seat of the writer, phase, gate, poison | the event count and the mutex, as their models show them |
//! | `barrier` | seats of members with their notes, rounds, gate | the event count and the mutex, as their models show them |
//!
//! Their memory is sequentially consistent. [`orderings`](crate::orderings) checks what
//! the orderings of the code permit beyond that.

mod barrier;
mod channel;
mod checker;
mod condvar;
mod event_count;
mod mutex;
mod pi_mutex;
mod rwlock;
