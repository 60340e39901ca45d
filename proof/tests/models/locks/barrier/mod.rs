//! The barrier: seats of members with their notes, the word of the rounds, the gate.
//!
//! Each process joins, waits a few times and leaves. A process may be killed between
//! any two steps, and a process that waits may give up.
//!
//! # The steps in the code
//!
//! All are in `src/sync/barrier.rs`.
//!
//! | step | in the code | reads, *writes* |
//! |---|---|---|
//! | `TakeGate` | `join`: `Turn::take` | *gate* |
//! | `LookForDeath`, `LookAtDeadNote` | `settle_all`: `is_left_by_death` | seat, note |
//! | `TakeDead` | `settle_all`: `try_take` | *seat* |
//! | `BreakForDead` | `settle_all`: `break_present` | *rounds* |
//! | `ClearDead` | `settle_all`: `set_note` | *note* |
//! | `LeaveDead` | `settle_all`: `leave` | *seat* |
//! | `TakeSeat` | `join`: `try_take_any` | *seat* |
//! | `LookAtTaken`, `BreakForTaken` | `join` | note, *rounds* |
//! | `Become` | `join`: `set_note` | *note* |
//! | `ReadRound` | `join`, `go_on` | rounds |
//! | `LeaveGate` | `Turn::drop` | *gate* |
//! | `Check` | `wait_until`: `has_ended` | rounds |
//! | `Arrive` | `wait_until`: `set_note` | *note* |
//! | `ReadRounds` | `outcome` | rounds |
//! | `LookAtSeat`, `LookAtNote` | `look` | seat, note |
//! | `Complete` | `outcome`: `end` | *rounds* |
//! | `TryGate` | `outcome`: `Turn::take` | *gate* |
//! | `Waiting` | `changed.wait` | |
//! | `GiveUp` | `give_up` | *rounds* |
//! | `BreakToLeave`, `ClearOwn`, `LeaveSeat` | `BarrierMember::drop` | *rounds*, *note*, *seat* |
//! | death | the kernel orphans the seats | *seats* |
//!
//! # Simplifications
//!
//! * A wait ends if and only if its question may have an answer. The model of the event
//!   count shows that a notification and the death of a watched occupant end a wait.
//! * A break is one step: its compare-exchange is repeated until it succeeds.
//! * A seat is one word with a note. The model of the mutex shows how a robust lock is
//!   taken.

mod model;
mod state;
mod steps;
mod tests;
