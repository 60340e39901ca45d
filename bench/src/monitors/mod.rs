//! Locks with condition variables.
//!
//! | contestant | after a process was killed at the wrong instruction | reason |
//! |---|---|---|
//! | shm-sync | the others continue | `ShmCondvar`: a count, and waiters that recheck at intervals |
//! | shm-sync PthreadCondvar | notifiers may wait forever | the condition variable of the C library counts its waiters |
//! | pthread robust | notifiers may wait forever | the condition variable of the C library counts its waiters |
//! | pthread robust, timed | notifiers may wait forever | the same; each wait for a notification has a deadline, which shows its cost |
//! | Boost.Interprocess | the others wait forever | its mutex, and the same condition variable |
//! | shm-sync ShmEvent | the others wait forever | a turn has no owner |
//! | pair of semaphores | the others wait forever | a turn has no owner |
//! | pair of pipes | the others wait forever | a turn has no owner |
//! | flag + usleep(1000) | the others wait forever | a turn has no owner |
//! | bare word, spinning | the others wait forever | a turn has no owner; it shows the lower bound: the transfer of one cache line |
//! | spin lock and number | the others wait forever | its lock has no owner; it shows the lower bound of a monitor |
//! | std::sync | does not apply | for threads of one process, for comparison |

mod boost;
mod events;
mod monitor;
mod pipes;
mod polled;
mod pthread;
mod semaphores;
mod spin_lock;
mod standard;
mod this_crate;

pub(crate) use boost::Boost;
pub(crate) use events::Events;
pub(crate) use monitor::{HandOver, Monitor, Notify, RING, State, WaitQueue};
pub(crate) use pipes::Pipes;
pub(crate) use polled::{PolledTurn, Sleeping, Spinning};
pub(crate) use pthread::{Pthread, TimedPthread};
pub(crate) use semaphores::Semaphores;
pub(crate) use spin_lock::SpinLock;
pub(crate) use standard::Standard;
pub(crate) use this_crate::ShmMonitor;
