//! The condition variable: the sequence with its generation, the count of waiters, the
//! deferred wake-ups of `notify_one`, the waiters that `notify_all` moves to the lock
//! word, the recheck, and the notification of an owner death.
//!
//! Producers put items under the mutex and notify. Consumers take items, and wait while
//! there are none. A flag setter sets a flag and notifies, and flag waiters wait for
//! the flag. Other processes only die, panic or repair under the mutex. A process may
//! be killed between any two steps.
//!
//! A notifier holds the mutex and knows that, or holds it and does not know that, or
//! does not hold it. A waiter that notifies of an owner death holds it and knows that.
//!
//! # The steps in the code
//!
//! | step | in the code | reads, *writes* |
//! |---|---|---|
//! | `Lock` | `ShmMutex::lock`; after a wait, `RawMutex::relock`. The exchange sets `FUTEX_WAITERS` after `LockWaiting`, or with `Queued::Perhaps`. The kernel has kept it after an owner death | *lock*, *mark* |
//! | `LockWaiting` | `ListAttempt::wait`: `FUTEX_WAITERS` is set, and the process sleeps on the lock word; a wake or the recheck interval ends it | *mark*, *lock queue* |
//! | `SetPoison`, `AddEpoch` | `RawMutex::recover_owner_death`; `RawMutex::poison_by_panic` | *poison*, *poison epoch* |
//! //! | `AddSequence` | `ShmCondvar::add`: one word | *sequence*, *generation* |
//! | `ReadWaiters` | `ShmCondvar::has_waiters`: without waiters the next steps are skipped. `ThreadState::defer_wake` and `ThreadState::wake_lockers_at_unlock` only note what the unlock wakes | waiters |
//! | `Wake` | `ShmCondvar::wake_one`, `ShmCondvar::wake_all`: the notifier does not hold the mutex, or does not know it | *queue* |
//! | `Mark` | `RobustMutex::take_waiters_of`, `RobustMutex::watch`: `FUTEX_WAITERS` is set | *mark* |
//! | `Move` | there, `futex::move_waiters`: the kernel moves all waiters in one step | *queue*, *lock queue* |
//! | `CheckPoison` | `ShmMutex::guard` | poison |
//! | `ClearPoison` | `Poisoned::recover` | *poison* |
//! | `Work` | what a user does under the lock: puts or takes an item, sets the flag, or finds nothing | *items*, *flag* |
//! | `ReadSequence`, `ReadEpoch` | `ShmCondvar::wait_raw`, under the mutex | sequence, generation, poison epoch |
//! | `UnlockForWait`, `Unlock` | `RawMutex::unlock_for_wait`, `RawMutex::unlock`: the exchange of the lock word | *lock*, *mark* |
//! | `WakeLockers` | `RobustMutex::finish_unlock`: if `FUTEX_WAITERS` was set, one waiter of the lock word is woken, or several after a `notify_all` | *lock queue* |
//! | `WakeDeferred` | `ThreadState::make_deferred_wakes`: so many waiters as `notify_one` has noted | *queue* |
//! | `Spin` | `ShmCondvar::wait_raw`: the last load of the spin loop | sequence |
//! | `AddWaiter` | `ShmCondvar::wait_in_kernel` | *waiters* |
//! | `FutexWait` | there, `futex::wait`: the kernel compares the sequence and queues the waiter in one step | sequence, *queue* |
//! | `Waiting` | queued in the kernel, on the sequence or on the lock word; a wake, the recheck interval or the deadline ends it | |
//! | `CheckOwnerDeath` | the recheck: `RawMutex::owner_died` | lock |
//! | `CheckEpoch` | the recheck: the poison epoch | poison epoch |
//! | `CheckDeadline` | the recheck: `Deadline::has_passed`. If it has, the wait ends with a timeout if the sequence is unchanged, else as notified | sequence |
//! | `RemoveWaiter` | `ShmCondvar::wait_in_kernel`, after the wait | *waiters* |
//! | `CheckGeneration` | `ShmCondvar::wait_raw`, before `relock`: `Queued::Perhaps` in a later generation. It is skipped without a wait in the kernel | generation |
//! | `Dying` | the kernel leaves the queues; a held lock becomes owner-dead and keeps its mark | *queue*, *lock queue*, *lock* |
//! | `DyingWakes` | the kernel, `handle_futex_death`: one waiter of the lock word is woken if the lock word of a dead holder has its mark, or if the lock word is 0 and the process has died in `RobustMutex::while_queued` | *lock queue* |
//!
//! # Simplifications
//!
//! * The mutex is one word with a mark, `FUTEX_WAITERS`. A process locks and unlocks it
//!   in one step each. In some scenarios a process that finds it held sleeps in the
//!   queue of the moved waiters. In the others it locks as soon as it can.
//! * Whether a notifier knows its mutex is a part of the scenario, so `mutex` is left
//!   out.
//! * A wake may choose any waiter. The kernel chooses the first of the highest
//!   priority.
//! * The kernel also wakes a waiter of the lock word if a process dies between its
//!   unlock and the wake, or in `RobustMutex::lock`. The model does without that.
//! * A newer kernel also does so if the free lock word has its mark. The model leaves
//!   that out.
//! * The sequence and its generation are two numbers, which change in one step and
//!   don't wrap.
//! * `MakeConsistent` and `SetHolder` are left out, because no step here reads what
//!   they write. The spin loop before `relock` is left out, because it decides nothing.

mod model;
mod state;
mod steps;
mod tests;
