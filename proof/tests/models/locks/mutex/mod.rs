//! The mutex: the robust lock (glibc's protocol, in this crate's code), the kernel that
//! buries the dead, and the words that this crate puts beside them.
//!
//! Every process locks and unlocks, again and again: with or without patience, working
//! on the data or repairing it, panicking or not. Some die, between any two steps.
//!
//! # The steps, and where they are
//!
//! | step | in the code | reads, *writes* |
//! |---|---|---|
//! | `Idle` | `Blocking::Try` in `RawMutex::take_if_free` | word (without patience) |
//! | `Load` | `RobustList::take`: `pending` is set, the word read | *pending*, word |
//! | `Take` | there: compare and exchange, from free, from owner died, or to add the waiters bit | *word* |
//! | `Sleep` | there: the kernel compares and queues in one step | word, *queue* |
//! | `Queued` | asleep in the kernel; ended by a wake, or by the end of the turn or the deadline: then `Load` | |
//! | `Reload` | there: the word is read again | word |
//! | `Enlist` | there: the mutex goes on the list; after a death it becomes inconsistent | *list*, `__owner` |
//! | `Enlisted` | there: `pending` is cleared | *pending* |
//! | `Mark` | `RawMutex::poison_by_death` | holder, *poison* |
//! | `Count` | there, `PoisonCount::add_one` | *poisonings* |
//! | `Consistent` | `RawMutex::inherit`, `pthread_mutex_consistent` | *`__owner`* |
//! | `Name` | `RawMutex::taken_by` | *holder* |
//! | `Judge` | `ShmMutex::guard` | poison |
//! | `WriteFirst`, `WriteSecond` | what a user does under the lock | *data* |
//! | `RepairFirst`, `RepairSecond` | the closure of `Poisoned::recover` | *data* |
//! | `Clear` | `Poisoned::recover`, after the closure | *poison* |
//! | `MarkPanic`, `CountPanic` | `RawMutex::poison_by_panic` in the guard's destructor | *poison*, *poisonings* |
//! | `Unname` | `RawMutex::unlock` | *holder* |
//! | `Announce` | `RobustList::give_back`: `pending` is set | *pending* |
//! | `Delist` | there: off the list (what libc does besides, inconsistent becomes not recoverable, is in the model as well) | *list*, *`__owner`* |
//! | `Release` | there: the word is exchanged for 0 | *word* |
//! | `Wake` | there: if the waiters bit was set, one sleeper is woken | *queue* |
//! | `Quiet` | there: `pending` is cleared | *pending* |
//! | `Dying` | the kernel, `exit_robust_list`: out of the queue; word compared with the dead one's id | *queue*, *word* |
//! | `DyingWakes` | the kernel, `handle_futex_death`: one sleeper is woken | *queue* |
//!
//! # What is simpler than the truth
//!
//! * A wake may hit any sleeper; the kernel takes the one that has slept longest.
//! * `poisonings` is not a number but the question whether a poisoning was not counted.
//! * `RobustList::take_if_free` is `take` that finds the word free, or begins again.
//! * glibc's `__owner` is only told apart as far as it decides something.
//! * The processes are alike, so states that differ by their numbers only are one.
//! * A deadline comes at any time once somebody sleeps, even at once: so `try_lock`,
//!   `try_lock_for` and `try_lock_until` are one.
//! * No signals interrupt a wait: an interrupted sleeper does what a woken one does,
//!   and a machine that needs signals to get on would not be caught.

mod model;
mod state;
mod steps;
mod tests;
