//! The mutex: the robust lock (glibc's protocol, in this crate's code), the kernel's
//! part after a death, and the words of this crate beside the lock.
//!
//! Each process locks and unlocks repeatedly. It waits with or without a deadline,
//! writes or repairs the data, and may panic. A process may die between any two steps.
//!
//! # The steps in the code
//!
//! | step | in the code | reads, *writes* |
//! |---|---|---|
//! | `Idle` | `Blocking::Try` in `RawMutex::try_lock_fast` | word (for `Try`) |
//! | `Load` | `RobustList::lock`: `list_op_pending` is set, the word loaded | *pending*, word |
//! | `Exchange` | `lock_contended`: the compare-exchange of a free word, of an owner-dead word, or to set `FUTEX_WAITERS` | *word* |
//! | `FutexWait` | there: the kernel compares the word and queues the waiter in one step | word, *queue* |
//! | `Waiting` | queued in the kernel; a wake ends it with `Reload`, the recheck interval or the deadline with `Load` | |
//! | `Reload` | there: the word is loaded again | word |
//! | `PushFront` | `RobustList::push_front`; after owner death the mutex becomes inconsistent | *list*, `__owner` |
//! | `LockClearPending` | `RobustList::clear_pending` | *pending* |
//! | `SetPoison` | `RawMutex::recover_owner_death`: the cause is stored | holder, *poison* |
//! | `AddEpoch` | there: the poison epoch is advanced | *poison epoch* |
//! | `MakeConsistent` | there: `pthread_mutex_consistent` | *`__owner`* |
//! | `SetHolder` | `RawMutex::record_owner` | *holder* |
//! | `CheckPoison` | `ShmMutex::guard` | poison |
//! | `WriteFirst`, `WriteSecond` | what a user does under the lock | *data* |
//! | `RepairFirst`, `RepairSecond` | the closure of `Poisoned::recover` | *data* |
//! | `ClearPoison` | `Poisoned::recover`, after the closure | *poison* |
//! | `PanicSetPoison`, `PanicAddEpoch` | `RawMutex::poison_by_panic`, called by the guard's `drop` | *poison*, *poison epoch* |
//! | `ClearHolder` | `RawMutex::unlock` | *holder* |
//! | `SetPending` | `RobustList::unlock`: `list_op_pending` is set | *pending* |
//! | `RemoveFromList` | `RobustList::remove`; as in libc, an inconsistent mutex becomes unrecoverable | *list*, *`__owner`* |
//! | `ReleaseWord` | `RobustList::unlock`: the word is exchanged for 0 | *word* |
//! | `Wake` | there: if `FUTEX_WAITERS` was set, one waiter is woken | *queue* |
//! | `UnlockClearPending` | `RobustList::clear_pending` | *pending* |
//! | `Dying` | the kernel leaves the queue; `exit_robust_list` compares the word with the thread id | *queue*, *word* |
//! | `DyingWakes` | the kernel, `handle_futex_death`: one waiter is woken | *queue* |
//!
//! # Simplifications
//!
//! * A wake may choose any waiter. The kernel chooses the first of the highest
//!   priority.
//! * The poison epoch is not a number. The model records whether it is due to advance.
//! * `try_lock_fast` is a `lock` that finds the word free, or starts over.
//! * glibc's `__owner` has only the values that decide something.
//! * States that differ only in the numbers of processes are one state, because the
//!   processes are equal.
//! * `try_lock`, `try_lock_for` and `try_lock_until` are one call, because a deadline
//!   may pass at any time after the wait begins, even at once.
//! * Signals interrupt no wait. An interrupted waiter acts as a woken one. A model that
//!   makes progress only by signals would not be noticed.

mod model;
mod state;
mod steps;
mod tests;
