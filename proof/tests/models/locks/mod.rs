//! The models of the mutex and of the condition variable, with deaths at any step.
//!
//! | model | what it has | what it relies on |
//! |---|---|---|
//! | `mutex` | lock word, robust list, kernel, holder, poison, data | the kernel's futexes |
//! | `pi_mutex` | the mutex with priority inheritance: lock word, robust list, the kernel's queue, a reader that waits on the word | the kernel's futexes |
//! | `condvar` | sequence, generation, waiters, wake chain, recheck, notification of an owner death | the mutex, as its model shows it |
//! | `event_count` | roll of announcements, sequence, vain wakes, recheck, a watched seat | the kernel's futexes and robust lists |
//! | `channel` | ring, two indices, locks or single seats, sleepers on both sides, the end of the other side | the mutex and the event count, as their models show them |
//! | `rwlock` | seats of readers, seat of the writer, phase, gate, poison | the event count and the mutex, as their models show them |
//! | `barrier` | seats of members with their notes, rounds, gate | the event count and the mutex, as their models show them |
//! | `store_buffer` | the two accesses by which a notifier of the condition variable skips the system call | nothing: it is checked on the memory model |
//! | `event_count_orderings` | the same of the event count, with the settling | nothing: it is checked on the memory model |
//! | `seat_orderings` | a reader and a writer, or two members of a barrier, that look at each other | nothing: it is checked on the memory model |
//! | `published_orderings` | the fences between a value that is published and the readers' copies | nothing: it is checked on the memory model |
//!
//! The memory of all but the last four is sequentially consistent. The last four check
//! the accesses whose order no lock decides.

mod barrier;
mod channel;
mod checker;
mod condvar;
mod event_count;
mod event_count_orderings;
mod mutex;
mod pair;
mod pi_mutex;
mod published_orderings;
mod rwlock;
mod seat_orderings;
mod store_buffer;
