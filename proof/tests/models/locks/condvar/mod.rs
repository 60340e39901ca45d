//! The condition variable: the sequence with its generation, the count of waiters, the
//! wake chain of `notify_all`, the recheck, and the notification of an owner death.
//!
//! Producers put items under the mutex and notify. Consumers take items, and wait while
//! there are none. A flag setter sets a flag and notifies, and flag waiters wait for
//! the flag. Other processes only die, panic or repair under the mutex. A process may
//! be killed between any two steps.
//!
//! # The steps in the code
//!
//! | step | in the code | reads, *writes* |
//! |---|---|---|
//! | `Lock` | `ShmMutex::lock`; after a wait, `RawMutex::relock` | *lock* |
//! | `SetPoison`, `AddEpoch` | `RawMutex::recover_owner_death`; `RawMutex::poison_by_panic` | *poison*, *poison epoch* |
//! | `AddSequence` | `notify_one`, `notify_all`: one word | *sequence*, *generation* |
//! | `ReadWaiters` | `ShmCondvar`, before it wakes: without waiters the next step is skipped | waiters |
//! | `Wake` | there, `futex::wake_bitset`: one of the previous generation, or one that is not of the new one | *queue* |
//! | `CheckPoison` | `ShmMutex::guard` | poison |
//! | `ClearPoison` | `Poisoned::recover` | *poison* |
//! | `Work` | what a user does under the lock: puts or takes an item, sets the flag, or finds nothing | *items*, *flag* |
//! | `ReadSequence`, `ReadEpoch` | `ShmCondvar::wait_raw`, under the mutex | sequence, generation, poison epoch |
//! | `UnlockForWait`, `Unlock` | `RawMutex::unlock_for_wait`, `RawMutex::unlock` | *lock* |
//! | `Spin` | `ShmCondvar::wait_raw`: the last load of the spin loop | sequence |
//! | `AddWaiter` | `ShmCondvar`, before the kernel wait | *waiters* |
//! | `FutexWait` | there, `futex::wait_bitset`: the kernel compares the sequence and queues the waiter in one step | sequence, *queue* |
//! | `Waiting` | queued in the kernel; a wake, the recheck interval or the deadline ends it | |
//! | `CheckOwnerDeath` | the recheck: `RawMutex::owner_died` | lock |
//! | `CheckEpoch` | the recheck: the poison epoch | poison epoch |
//! | `CheckDeadline` | the recheck: `Deadline::has_passed` | |
//! | `RemoveWaiter` | `ShmCondvar`, after the kernel wait | *waiters* |
//! | `CheckGeneration` | there: in the same generation the next two steps are skipped | generation |
//! | `ReadWaitersAgain` | there: without waiters the next step is skipped | waiters |
//! | `WakeNext` | there, `futex::wake_bitset`: one that is not of the generation just read | *queue* |
//! | `Dying` | the kernel leaves the queue; a held lock becomes owner-dead | *queue*, *lock* |
//!
//! # Simplifications
//!
//! * The mutex is one word. A process locks and unlocks it in one step each, and a
//!   blocked process locks it as soon as it can: the model of the mutex shows that.
//! * A wake may choose any waiter of its generations. The kernel chooses the first of
//!   the highest priority.
//! * The sequence and its generation are two numbers, which change in one step and
//!   don't wrap.
//! * `MakeConsistent` and `SetHolder` are left out, because no step here reads what
//!   they write. The spin loop before `relock` is left out, because it decides nothing.

mod model;
mod state;
mod steps;
mod tests;
