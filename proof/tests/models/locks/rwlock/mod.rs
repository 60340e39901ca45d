//! The readers-writer lock: seats of readers, the seat of the writer with its phase,
//! the gate, the poison.
//!
//! Readers read and writers change the data, each a few times. A process may be killed
//! between any two steps, and a process that waits may give up.
//!
//! # The steps in the code
//!
//! All are in `src/sync/raw_rwlock.rs`.
//!
//! | step | in the code | reads, *writes* |
//! |---|---|---|
//! | `TakeSeat` | `read`: `try_take_any` | *seat* |
//! | `ReadPhase` | `read`, `wait_for_turn` | phase |
//! | `Note` | `wait_for_turn`: `set_note` | *note* |
//! | `AskNumber` | `has_ended` | phase |
//! | `AskWriter` | `has_ended`: `is_occupied` | writer's seat |
//! | `WaitForTurn` | `turn.wait` | |
//! | `TakeWriterToRepair` | `has_ended`: `try_take` | *writer's seat* |
//! | `LeaveSeat`, `LeaveSeatUnread` | `end_read` | *seat* |
//! | `LookAtGate` | `write` | gate |
//! | `TakeWriter` | `write`: `try_take` | *writer's seat* |
//! | `TakeGate` | `wait_at_gate`: `gate.take` | *gate* |
//! | `TakeWriterAtGate` | `wait_at_gate`: `try_take`, `turn.wait` | *writer's seat* |
//! | `LeaveGate` | `Gate::drop` | *gate* |
//! | `LookForDeath` | `end_phase_of_dead_writer` | phase, inside |
//! | `PoisonForDead`, `ClearDead`, `OpenForDead` | there | *poison*, *inside*, *phase* |
//! | `Close` | `write`: `set_note` | *phase* |
//! | `LookAtSeat`, `LookAtNote` | `have_readers_left` | seat, note |
//! | `WaitForReader` | `vacated.wait` | |
//! | `SetInside` | `write` | *inside* |
//! | `Look` | the data and the poison, as the guard gives them | data, poison |
//! | `Repair`, `ClearPoison` | `Poisoned::recover` | *data*, *poison* |
//! | `Begin`, `Finish` | a change of the data | *data* |
//! | `ClearInside` | `end_write` | *inside* |
//! | `Open` | `leave_writer`: `set_note` | *phase* |
//! | `OpenKept` | `downgrade`: `set_note` | *phase* |
//! | `LookDowngraded` | the data, as the read guard gives it | data |
//! | `LeaveWriter` | `leave_writer` | *writer's seat* |
//! | death | the kernel orphans the seats | *seats* |
//!
//! # Simplifications
//!
//! * A wait ends if and only if its question may have an answer. The model of the event
//!   count shows that a notification and the death of a watched occupant end a wait.
//! * Each reader has a seat of its own, so none waits for a seat.
//! * A seat is one word with a note. The model of the mutex shows how a robust lock is
//!   taken.

mod model;
mod state;
mod steps;
mod tests;
