//! The event count: the roll of announcements, the sequence, the settling after a vain
//! wake, the recheck, and the watching of a seat.
//!
//! Setters make tokens and notify. Consumers wait for a token and take it. A holder has
//! a seat and leaves it, and watchers wait for its end. A process may be killed between
//! any two steps.
//!
//! # The steps in the code
//!
//! | step | in the code | reads, *writes* |
//! |---|---|---|
//! | `ReadSequence` | `EventCount::wait` | sequence |
//! | `Announce` | `EventCount::announce` | *roll* |
//! | `Mark` | `Seat::watch` | *seat* |
//! | `Ask` | the question: a consumer takes a token, a watcher looks at the seat | *tokens*, seat |
//! | `FutexWait` | `EventCount::sleep`: the kernel compares the words and queues the waiter in one step | sequence, seat, *queues* |
//! | `Waiting` | queued in the kernel; a wake, the recheck interval or the deadline ends it | |
//! | `SettleAlone` | `EventCount::settle_if_alone` | *roll* |
//! | `Change` | the caller of `notify`: it makes a token | *tokens* |
//! | `LoadRoll` | `EventCount::notify`: if all are settled, this is its end | roll |
//! | `AddSequence` | `EventCount::wake` | *sequence* |
//! | `Wake` | there, `futex::wake` | *queue* |
//! | `Settle` | there, if no waiter was woken: `EventCount::settle` | *roll* |
//! | `Leave` | `Seat::leave`: the lock word becomes 0 | *seat* |
//! | `WakeSeat` | there, if the word was marked: `futex::wake` | *queue of the seat* |
//! | `Dying` | the kernel leaves the queues, and orphans the seat | *queues*, *seat* |
//! | `KernelWake` | there, if the word was marked, or if `list_op_pending` names the seat and the word is 0 | *queue of the seat* |
//!
//! # Simplifications
//!
//! * A wake may choose any waiter. A wake of all is one step.
//! * The spin before the sleep is left out, because it decides nothing.
//! * The numbers do not wrap around.
//! * The seat is one word. The model of the mutex shows how a robust lock is taken.

mod model;
mod state;
mod steps;
mod tests;
