//! The workloads.

mod baseline;
mod busy_work;
pub(crate) mod contended;
pub(crate) mod family;
mod hand_over;
mod idle;
mod ipc;
pub(crate) mod languages;
mod memory;
mod opening;
mod recovery;
mod rounds;
mod uncontended;

use crate::failure::Failure;
use crate::plan::Plan;
use crate::progress::Progress;
use crate::series::Series;

/// A workload.
#[derive(Debug)]
pub(crate) struct Workload {
    /// The name on the command line.
    pub(crate) name: &'static str,
    /// The heading in the report.
    pub(crate) title: &'static str,
    /// The explanation below the heading.
    pub(crate) method: &'static str,
    /// The contestant that the others are compared with.
    pub(crate) baseline: &'static str,
    pub(crate) run: fn(&Plan, &Progress) -> Result<Vec<Series>, Failure>,
}

/// The workloads of locks and messages, in the order in which they run. Those of the
/// other primitives are in [`family`].
pub(crate) const LOCKS: &[Workload] = &[
    Workload {
        name: "uncontended",
        title: "Uncontended lock",
        method: "\
One process locks, adds one and unlocks. The lock is always free. *Stores of a robust list*
are two exchanges of a lock word with the stores by which the kernel finds it.",
        baseline: "pthread robust",
        run: uncontended::run,
    },
    Workload {
        name: "contended",
        title: "Contended lock",
        method: "\
2 to 64 processes lock, work, unlock and work outside the lock. A short section is one
addition with 20 ns outside on average, a medium one 250 ns with 500 ns outside, a long one
5 µs with 10 µs outside. Fairness is the number of operations of the least busy process
relative to the busiest, over a quarter of a second or more. With 16 and more processes it
depends on the scheduler. Processor time includes the work. *Futex in two cache lines* is
rustix-futex-sync with its number in the next cache line, where that of shm-sync is.",
        baseline: "pthread robust",
        run: contended::run,
    },
    Workload {
        name: "hand-over",
        title: "Hand-over with a condition variable",
        method: "\
*Two*: two processes pass a turn to each other. In *both running* and *on one processor*
they do nothing else; in *both asleep* each keeps the turn for a millisecond, and the time
is that of the wake-up. *`notify_all`*: one process calls eight or 32 waiters, each of which
works for 5 µs under the lock or not at all, and waits for their answers. *Eight waiters*:
the same with eight `notify_one`. *Producer and consumer*: they share a ring of 64 places.
Workers of `std::sync` are threads. In *pthread robust, timed* each wait for a notification
has a deadline, as in shm-sync.",
        baseline: "pthread robust",
        run: hand_over::run,
    },
    Workload {
        name: "baseline",
        title: "Polled flag",
        method: "\
The method that this crate replaces: a flag in shared memory, and `usleep(1000)` while it is
set. The counters use the short and the long section of the contended lock.",
        baseline: "flag + usleep(1000)",
        run: baseline::run,
    },
    Workload {
        name: "recovery",
        title: "Recovery after a kill",
        method: "\
A process is killed while it holds the lock. *Waits in lock()*: the time from the `SIGKILL`
until a waiter has locked and repaired. *Locks afterwards*: the time that a locker needs
after the death.",
        baseline: "pthread robust",
        run: recovery::run,
    },
    Workload {
        name: "idle",
        title: "Processor time of waiters",
        method: "\
Four processes wait for a lock that stays locked, and four for a notification that does not
come. The values are for one waiter, relative to one processor.",
        baseline: "pthread robust",
        run: idle::run,
    },
    Workload {
        name: "opening",
        title: "Creating and opening",
        method: "\
One process creates shared memory with a number in it, opens it again, replaces the number
and closes it. The bare system calls check nothing. The careful ones are those that the
promises of shm-sync need: a name only for a complete object, a lock that tells of each
user, and checks before the object is mapped.",
        baseline: "bare system calls",
        run: opening::run,
    },
    Workload {
        name: "memory",
        title: "Memory",
        method: "\
The size of a lock without its data, and many locks in one segment, each with a number. Each
lock is then locked once, in random order.",
        baseline: "pthread robust",
        run: memory::run,
    },
    Workload {
        name: "ipc",
        title: "Messages between two processes",
        method: "\
*Round trip*: a message goes to the other process and back. *Throughput*: messages go one
way. Every channel copies. Each process has its own processor unless the column says
otherwise.",
        baseline: "pipe",
        run: ipc::run,
    },
];
