//! Sleeps that end on time in a thread that has asked the kernel for imprecise timers.
//!
//! The kernel lets the timers of a thread expire late by the thread's *timer slack*, so
//! that it can serve several of them at once. The slack is 50 µs unless the thread, its
//! parent, systemd (`TimerSlackNSec=`) or a battery saver (`/proc/PID/timerslack_ns`)
//! has changed it. With a slack of seconds, a heartbeat would come seconds late, and a
//! waiter would learn of a death seconds late.
//!
//! # Cost
//!
//! Asking for the slack is a system call. Two processes that pass a turn to and fro
//! sleep a hundred thousand times in a second, and would notice one more call. So a
//! thread that has found its slack small asks again only after [`PERIOD`]. If the slack
//! grows in that time, one sleep ends late, and the next sleep asks. A thread whose
//! slack is large makes three more calls at each sleep.

use std::cell::Cell;
use std::ffi::c_ulong;
use std::time::Duration;

use super::clock::Deadline;

/// The largest slack in nanoseconds that is left as it is. It is small beside every
/// deadline that this crate documents, and 200 times the kernel's default.
const TOLERATED: c_ulong = 10_000_000;

/// The slack in nanoseconds during a sleep: the kernel's default.
const PRECISE: c_ulong = 50_000;

/// How long a small slack is believed to stay small. A turn of waiting and a heartbeat
/// are as long, so each of them asks at most once.
const PERIOD: Duration = Duration::from_millis(150);

thread_local! {
    /// A sleep of this thread that ends by then does not ask for the slack.
    static SMALL_UNTIL: Cell<Option<Deadline>> = const { Cell::new(None) };
}

/// Calls `sleep`, whose timer is set to `deadline` and expires at most [`TOLERATED`]
/// late.
///
/// The thread's slack is restored when `sleep` returns or unwinds. A signal handler
/// that runs meanwhile sees the smaller slack, and so does a process that it forks. A
/// thread with real-time priority has no slack, and keeps none.
pub(super) fn punctually<R>(deadline: Deadline, sleep: impl FnOnce() -> R) -> R {
    if SMALL_UNTIL.get().is_some_and(|until| deadline <= until) {
        return sleep();
    }
    let lowered = Lowered::if_large();
    if lowered.is_none() {
        SMALL_UNTIL.set(Some(Deadline::next_multiple_of(PERIOD)));
    }
    sleep()
}

/// A small slack of the calling thread. `drop` restores the large one.
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

/// [`PR_GET_TIMERSLACK(2const)`](https://man7.org/linux/man-pages/man2/PR_GET_TIMERSLACK.2const.html).
/// Returns `None` if the call fails.
///
/// libc's `prctl` returns an `int`, for which four seconds are too much. The kernel's
/// answer is unsigned: a slack of more than 292 years looks negative. It looks like an
/// error if it is one of the 4095 largest numbers.
fn get() -> Option<c_ulong> {
    // SAFETY: the call takes no memory.
    let slack = unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_TIMERSLACK, 0, 0, 0, 0) };
    (slack != -1).then_some(slack.cast_unsigned())
}

/// [`PR_SET_TIMERSLACK(2const)`](https://man7.org/linux/man-pages/man2/PR_SET_TIMERSLACK.2const.html).
/// Returns whether the kernel did it. `slack` is not 0, which would mean the default.
fn set(slack: c_ulong) -> bool {
    // SAFETY: the call takes no memory.
    let rc = unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_TIMERSLACK, slack, 0, 0, 0) };
    rc == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asleep<R>(sleep: impl FnOnce() -> R) -> R {
        punctually(Deadline::after(Duration::from_secs(60)), sleep)
    }

    /// Runs `f` in a thread of its own, whose slack is its own.
    fn apart(f: impl FnOnce() + Send + 'static) {
        std::thread::spawn(f).join().expect("the test passes");
    }

    #[test]
    fn smoke() {
        apart(|| {
            let before = get();
            assert_eq!(asleep(get), before, "it was small already");
        });
    }

    #[test]
    fn a_large_slack_is_small_during_a_sleep() {
        apart(|| {
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
    fn a_small_slack_stays() {
        apart(|| {
            for slack in [1, 50_000, 10_000_000] {
                assert!(set(slack));
                assert_eq!(asleep(get), Some(slack));
                assert_eq!(get(), Some(slack));
            }
        });
    }

    #[test]
    fn a_slack_that_grows_is_noticed_after_a_turn() {
        apart(|| {
            let this_turn = Deadline::next_multiple_of(PERIOD);
            assert!(punctually(this_turn, get) <= Some(TOLERATED));
            assert!(set(5_000_000_000));
            // Not asked again for this turn, but for the next.
            let next_turn = this_turn.plus(PERIOD + PERIOD);
            assert_eq!(punctually(next_turn, get), Some(50_000));
            assert_eq!(get(), Some(5_000_000_000));
        });
    }

    #[test]
    fn a_panic_restores_it() {
        apart(|| {
            assert!(set(5_000_000_000));
            let panicked = std::panic::catch_unwind(|| asleep(|| panic!("a test's panic")));
            assert!(panicked.is_err());
            assert_eq!(get(), Some(5_000_000_000));
        });
    }
}
