//! Sleeps that end on time although the thread has a large timer slack.
//!
//! The kernel lets the timers of a thread expire late by the thread's *timer slack*, so
//! that several timers expire at once. The slack is 50 µs unless the thread, its
//! parent, systemd (`TimerSlackNSec=`) or a battery saver (`/proc/PID/timerslack_ns`)
//! has changed it. With a slack of seconds, a waiter would do its recheck seconds late.
//!
//! # Cost
//!
//! Reading the slack is a system call. A thread that waits often would pay for it at
//! each sleep. So a thread whose slack is small reads it again only after
//! [`RECHECK_INTERVAL`]. If the slack grows in that time, the sleeps that end before
//! then may end late. A thread with a large slack makes three more calls at each sleep.

use std::cell::Cell;
use std::ffi::c_ulong;

use super::clock::{Deadline, RECHECK_INTERVAL};

/// The largest slack in nanoseconds that is not changed. It is small compared to the
/// deadlines that this crate documents, and 200 times the kernel's default.
const TOLERATED: c_ulong = 10_000_000;

/// The slack in nanoseconds during a sleep: the kernel's default.
const PRECISE: c_ulong = 50_000;

thread_local! {
    /// A sleep of this thread that ends by then does not read the slack.
    static SMALL_UNTIL: Cell<Option<Deadline>> = const { Cell::new(None) };
}

/// Calls `sleep`, whose timer is set to `deadline`. The timer expires at most
/// [`TOLERATED`] late.
///
/// The thread's slack is restored when `sleep` returns or unwinds. A signal handler
/// that runs meanwhile has the smaller slack, and so does a process that it forks. A
/// thread with real-time priority has no slack, which stays so.
pub(super) fn punctually<R>(deadline: Deadline, sleep: impl FnOnce() -> R) -> R {
    if SMALL_UNTIL.get().is_some_and(|until| deadline <= until) {
        return sleep();
    }
    let lowered = Lowered::if_large();
    if lowered.is_none() {
        SMALL_UNTIL.set(Some(Deadline::next_multiple_of(RECHECK_INTERVAL)));
    }
    sleep()
}

/// The calling thread's slack is small. `drop` restores the large one.
struct Lowered {
    before: c_ulong,
}

impl Lowered {
    /// Makes the slack small. Returns `None` if it is small already, or if the kernel
    /// refuses.
    #[inline]
    fn if_large() -> Option<Self> {
        let before = get().filter(|&slack| slack > TOLERATED)?;
        set(PRECISE).then_some(Self { before })
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        set(self.before);
    }
}

/// Calls [`PR_GET_TIMERSLACK(2const)`](https://man7.org/linux/man-pages/man2/PR_GET_TIMERSLACK.2const.html).
/// Returns `None` if the call fails.
///
/// libc's `prctl` returns an `int`, which is too small for four seconds. The kernel's
/// result is unsigned. So a slack of more than 292 years is a negative number here, and
/// the 4095 largest numbers are errors.
fn get() -> Option<c_ulong> {
    // SAFETY: the call accesses no memory.
    let slack = unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_TIMERSLACK, 0, 0, 0, 0) };
    (slack != -1).then_some(slack as c_ulong)
}

/// Calls [`PR_SET_TIMERSLACK(2const)`](https://man7.org/linux/man-pages/man2/PR_SET_TIMERSLACK.2const.html).
/// Returns whether the call succeeded. `slack` is not 0, which would mean the default.
fn set(slack: c_ulong) -> bool {
    // SAFETY: the call accesses no memory.
    let rc = unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_TIMERSLACK, slack, 0, 0, 0) };
    rc == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn asleep<R>(sleep: impl FnOnce() -> R) -> R {
        punctually(Deadline::after(Duration::from_secs(60)), sleep)
    }

    /// Runs `f` in a new thread, which has its own slack.
    fn in_new_thread(f: impl FnOnce() + Send + 'static) {
        std::thread::spawn(f).join().expect("the test passes");
    }

    #[test]
    fn smoke() {
        in_new_thread(|| {
            let before = get();
            assert_eq!(asleep(get), before, "the slack is small");
        });
    }

    #[test]
    fn large_slack_is_small_during_a_sleep() {
        in_new_thread(|| {
            for slack in [
                10_000_001,
                1 << 31,
                5_000_000_000,
                1 << 62,
                1 << 63,
                u64::MAX - 4095,
            ] {
                assert!(set(slack));
                assert_eq!(asleep(get), Some(50_000), "{slack}");
                assert_eq!(get(), Some(slack));
            }
        });
    }

    #[test]
    fn small_slack_does_not_change() {
        in_new_thread(|| {
            for slack in [1, 50_000, 10_000_000] {
                assert!(set(slack));
                assert_eq!(asleep(get), Some(slack));
                assert_eq!(get(), Some(slack));
            }
        });
    }

    #[test]
    fn growing_slack_is_detected_at_the_next_recheck() {
        in_new_thread(|| {
            let this_recheck = Deadline::next_multiple_of(RECHECK_INTERVAL);
            assert!(punctually(this_recheck, get) <= Some(TOLERATED));
            assert!(set(5_000_000_000));
            // The slack is not read again for this recheck, but for the next.
            let next_recheck = this_recheck.plus(RECHECK_INTERVAL + RECHECK_INTERVAL);
            assert_eq!(punctually(next_recheck, get), Some(50_000));
            assert_eq!(get(), Some(5_000_000_000));
        });
    }

    #[test]
    fn panic_restores_the_slack() {
        in_new_thread(|| {
            assert!(set(5_000_000_000));
            let panicked = std::panic::catch_unwind(|| asleep(|| panic!("a test's panic")));
            assert!(panicked.is_err());
            assert_eq!(get(), Some(5_000_000_000));
        });
    }
}
