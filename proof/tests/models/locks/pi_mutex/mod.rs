//! The mutex with priority inheritance: this crate's lockers, the kernel's queue for
//! the word, and a reader that waits on the word by `FUTEX_WAIT`.
//!
//! The words beside the lock (holder, poison) are those of the model `mutex`, and are
//! left out here.
//!
//! # The steps in the code
//!
//! | step | in the code | reads, *writes* |
//! |---|---|---|
//! | `Load` | `lock`: `list_op_pending` is set, the word loaded | *pending*, word |
//! | `Exchange` | `lock_pending`: compare-exchange, from 0 | *word* |
//! | `FutexLockPi` | `request`: `FUTEX_LOCK_PI2` | word, queue, *word*, *queue* |
//! | `Waiting` | queued in the kernel; the kernel's choice or the recheck interval ends it | |
//! | `WakePlainWaiters` | `request` after `EINVAL`: `FUTEX_WAKE` for all plain waiters | *queue* |
//! | `Pause` | `lock_pending`: a pause until the recheck interval ends | |
//! | `CheckWord` | `lock_pending`, `finish_lock`: the word names this thread; `FUTEX_OWNER_DIED` is cleared | *word* |
//! | `PushFront` | `RobustList::push_front` | *list* |
//! | `LockClearPending` | `RobustList::clear_pending` | *pending* |
//! | `WriteFirst`, `WriteSecond` | what a user does under the lock | *data* |
//! | `SetPending` | `unlock`: `list_op_pending` is set | *pending* |
//! | `RemoveFromList` | `RobustList::remove` | *list* |
//! | `ReleaseWord` | `unlock_word`: compare-exchange, to 0 | *word* |
//! | `FutexUnlockPi` | `unlock_word`: `FUTEX_UNLOCK_PI`, and the releasing access before it, which changes nothing | word, queue, *word*, *queue* |
//! | `WakePlainWaitersAgain` | `unlock_word` after `EINVAL`: `FUTEX_WAKE` for all plain waiters | *queue* |
//! | `ReleaseToKernel` | `unlock_word`: the word becomes `FUTEX_WAITERS` | *word* |
//! | `UnlockClearPending` | `RobustList::clear_pending` | *pending* |
//! | `ExitRobustList` | the kernel, `exit_robust_list` | *word* |
//! | `ExitPiStateList` | the kernel, `exit_pi_state_list` | *queue* |
//!
//! The kernel's side is `kernel/futex/pi.c` of Linux 6.1 to 6.18, function by function:
//! `futex_lock_pi_atomic`, `attach_to_pi_state`, `attach_to_pi_owner`,
//! `futex_unlock_pi`, `fixup_pi_owner`, `exit_pi_state_list`. One fact decides about
//! the design: `fixup_pi_state_owner` writes the new owner into the word *without
//! reading the word*. If a waiter of an earlier owner is still queued when that owner
//! ends, it overwrites a word that another thread has locked without the kernel.
//!
//! # Simplifications
//!
//! * The kernel may choose any waiter. There are no priorities.
//! * A refused attempt is repeated once, not eight times.
//! * The reader waits a limited number of times.

mod model;
mod state;
mod steps;
mod tests;
