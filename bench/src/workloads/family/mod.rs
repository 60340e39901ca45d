//! The primitives beside the mutex and the condition variable.
//!
//! Entries are of two kinds. [`one_thread`] times an operation that nothing disturbs.
//! [`together`] counts the operations of processes that repeat them at the same time.
//! Channels and events have hand-overs between two processes.
//!
//! The contestant `shm-sync` is the primitive as its constructor makes it. Other
//! contestants of this crate have a name that tells how they differ.

mod barrier;
mod channel;
mod event;
mod once_lock;
mod one_thread;
mod published;
mod rwlock;
mod semaphore;
mod together;

use super::Workload;

/// All workloads of the family, in the order in which they run.
pub(crate) const ALL: &[Workload] = &[
    Workload {
        name: "semaphore",
        title: "Semaphore",
        method: "\
*Uncontended*: one thread acquires and releases the only permit. *Two processes*: both
acquire, work for 1 µs and release, and do nothing else. With two permits no process needs
to wait.",
        baseline: "POSIX semaphore",
        run: semaphore::run,
    },
    Workload {
        name: "rwlock",
        title: "Readers-writer lock",
        method: "\
The data are two numbers, and a reader checks that they are equal. *Uncontended*: one thread
locks, accesses them and unlocks. *Operations*: one or two processes do nothing else. They
only read, or every hundredth or tenth operation writes. The lock has 16 seats.",
        baseline: "pthread_rwlock",
        run: rwlock::run,
    },
    Workload {
        name: "channel",
        title: "Channel and pipe",
        method: "\
*Messages*: one process sends, the other one receives and checks the number of each message.
*Round trip*: the other one sends each message back, through a second channel. *Bytes*: a
stream that is written and read in chunks of 64 KiB. *One thread*: it sends and then
receives. Channels and `crossbeam` have room for 64 messages. `shm-sync` has the default
number of seats, *1 to 1* has one sender and one receiver. The workers of `crossbeam` are
threads. A subscriber of iceoryx2 polls without a pause.",
        baseline: "pipe",
        run: channel::run,
    },
    Workload {
        name: "published",
        title: "Published value",
        method: "\
One thread reads a value of 64 bytes, or replaces it. The mutex is locked, the value copied,
and the mutex unlocked.",
        baseline: "ShmMutex",
        run: published::run,
    },
    Workload {
        name: "event",
        title: "Event",
        method: "\
*No waiter*: one thread sets an event that is set, sets and resets it, or sets and passes
it. *Two*: two processes pass a turn to each other and do nothing else, with an event for
each side that resets itself. A round trip is two hand-overs.",
        baseline: "pthread robust",
        run: event::run,
    },
    Workload {
        name: "barrier",
        title: "Barrier",
        method: "\
Two processes wait for each other, and do nothing else.",
        baseline: "pthread_barrier",
        run: barrier::run,
    },
    Workload {
        name: "once-lock",
        title: "Value that is made once",
        method: "One thread gets a value that has been made.",
        baseline: "std::sync (threads)",
        run: once_lock::run,
    },
];
