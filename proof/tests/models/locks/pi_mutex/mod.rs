//! The mutex with priority inheritance: this crate's lockers, the kernel's queue for
//! the word, and a reader that waits on the word by `FUTEX_WAIT`.
//!
//! The words beside the mutex (holder, poison) are those of the machine in `mutex.rs`,
//! and are left out here.
//!
//! # The steps, and where they are
//!
//! | step | in the code | reads, *writes* |
//! |---|---|---|
//! | `Load` | `inheriting::lock`: `pending` is set, the word read | *pending*, word |
//! | `Take` | `lock_pending`: compare and exchange, from 0 | *word* |
//! | `Request` | `request`: `FUTEX_LOCK_PI2` | word, queue, *word*, *queue* |
//! | `Queued` | asleep in the kernel; ended by the kernel's choice or by the end of the turn | |
//! | `Wake` | `request` after `EINVAL`: `FUTEX_WAKE` for all plain waiters | *queue* |
//! | `WaitOut` | `futex::wait_out`: until the turn ends | |
//! | `Look` | `lock_pending`, `finish_lock`: the word names this thread; `FUTEX_OWNER_DIED` is cleared | *word* |
//! | `Enlist` | `RobustList::push_front` | *list* |
//! | `Enlisted` | `RobustList::clear_pending` | *pending* |
//! | `WriteFirst`, `WriteSecond` | what a user does under the lock | *data* |
//! | `Announce` | `inheriting::unlock`: `pending` is set | *pending* |
//! | `Delist` | `RobustList::remove` | *list* |
//! | `Release` | `unlock_word`: compare and exchange, to 0 | *word* |
//! | `HandOver` | `unlock_word`: `FUTEX_UNLOCK_PI` | word, queue, *word*, *queue* |
//! | `WakeAgain` | `unlock_word` after `EINVAL`: `FUTEX_WAKE` for all plain waiters | *queue* |
//! | `LeaveToKernel` | `unlock_word`: the word becomes `FUTEX_WAITERS` | *word* |
//! | `Quiet` | `RobustList::clear_pending` | *pending* |
//! | `DyingOnList` | the kernel, `exit_robust_list` | *word* |
//! | `DyingInQueue` | the kernel, `exit_pi_state_list` | *queue* |
//!
//! The kernel's side is `kernel/futex/pi.c` of Linux 6.1 to 6.18, function by function:
//! `futex_lock_pi_atomic`, `attach_to_pi_state`, `attach_to_pi_owner`, `futex_unlock_pi`,
//! `fixup_pi_owner`, `exit_pi_state_list`. One thing decides about the design:
//! `fixup_pi_state_owner` writes the new owner into the word *without looking at what the
//! word says*. So a word that a thread has taken without the kernel is overwritten, if a
//! waiter of an earlier owner is still queued when that owner ends.
//!
//! # What is simpler than the truth
//!
//! * Priorities: the kernel may choose any of the waiters.
//! * An attempt that the kernel refuses is repeated once, not eight times.
//! * The reader comes and goes a limited number of times.

mod model;
mod state;
mod steps;
mod tests;
