//! The channel: the index as the commit, both kinds of locks, sleepers on both sides,
//! and the end of the other side.
//!
//! Senders open an endpoint, send their messages and close it. Receivers open one and
//! receive until they are told that all senders have left. A process may be killed
//! between any two steps.
//!
//! # The steps in the code
//!
//! | step | in the code | reads, *writes* |
//! |---|---|---|
//! | `TakeSeat` | `End::open`: `Seats::try_take_any`, after it has looked at the peers | peers' seats, *seat* |
//! | `Arrive` | there, `arrivals` | *arrivals* |
//! | `NotifyArrival` | there, `notify` | *sleepers of the other side* |
//! | `Lock` | `Side::take_turn`; with one seat there is no such step | *lock* |
//! | `Check` | `RawChannel::put`, `take`: the indices | indices |
//! | `CopyBegin`, `CopyEnd` | there, the copy; a slot is torn in between | *slot* |
//! | `Commit` | `Side::move_to` | *index* |
//! | `Unlock`, `UnlockInVain` | the drop of `Turn` | *lock* |
//! | `Notify` | `Side::notify`: one sleeper | *sleepers of the other side* |
//! | `Return` | `send` or `recv` returns | |
//! | `Announce` | `EventCount::wait`: reads the sequence, announces itself, marks the seats | peers' seats |
//! | `Look` | `End::peers_left` | peers' seats, arrivals |
//! | `Sleep` | the kernel compares the sequence and the marked words | *queue* |
//! | `Waiting` | queued in the kernel | |
//! | `PassOn` | the wait was ended by a seat: `EventCount::notify`, all | *sleepers of the own side* |
//! | `Leave` | `End::close`: `Seat::leave` | *seat* |
//! | `WakeSeat` | there, if the word was marked: `futex::wake`, one | *a watcher* |
//! | `NotifyClose` | there, `notify` | *sleepers of the other side* |
//! | `Dying` | the kernel frees the lock, and orphans the seat | *lock*, *seat* |
//! | `KernelWake` | there, if the word was marked: one | *a watcher* |
//!
//! # Simplifications
//!
//! * A notification is one step, and so is an announcement. The model of the event
//!   count has their parts.
//! * A lock is one word that a death frees. The model of the mutex has its parts.
//! * A look at all seats is one step. `End::peers_left` looks again if a process has
//!   arrived meanwhile.
//! * Neither batches, nor the cached index, nor the hint of a side that was left are in
//!   the model. The numbers do not wrap around.

mod model;
mod state;
mod steps;
mod tests;
