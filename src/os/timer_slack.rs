//! Sleeps that end on time in a thread that has asked the kernel for imprecise timers.
//!
//! The kernel lets the timers of a thread expire late by the thread's *timer slack*, so
//! that it can serve several of them at once. The slack is 50 µs unless someone has
//! changed it: the thread, its parent, systemd (`TimerSlackNSec=`), or a battery saver
//! through `/proc/PID/timerslack_ns`. With a slack of seconds a heartbeat would come
//! seconds late, and so would the news of a death.
//!
//! # Cost
//!
//! Each sleep that has a deadline asks the kernel for the slack: one system call that
//! reads a number, beside one that puts the thread to sleep. The answer is not kept,
//! because another process may change the slack at any time, and no sleep is so short
//! that the question is felt (`docs/design.md`, "Timer slack"). Two more calls are made
//! only if the slack is large.

use std::ffi::{c_long, c_ulong};

/// The slack in nanoseconds that is left as it is: small beside every promise of this
/// crate, and 200 times the kernel's default.
const TOLERATED: c_long = 10_000_000;

/// The slack in nanoseconds during a sleep: the kernel's default.
const PRECISE: c_ulong = 50_000;

/// Calls `sleep`, whose timers expire at most [`TOLERATED`] late.
///
/// The thread's slack is restored when `sleep` ends, however it ends. A signal handler
/// that runs meanwhile sees the smaller slack. A thread with real-time priority has no
/// slack, and keeps none.
pub(super) fn punctually<R>(sleep: impl FnOnce() -> R) -> R {
    let _lowered = Lowered::if_large();
    sleep()
}

/// The thread's slack is small. Dropped, it is what it was.
struct Lowered {
    before: c_ulong,
}

impl Lowered {
    /// Makes the slack small. `None` if that is not necessary, or refused.
    #[inline]
    fn if_large() -> Option<Self> {
        let slack = get();
        if slack <= TOLERATED {
            return None;
        }
        let before = c_ulong::try_from(slack).ok()?;
        set(PRECISE).then_some(Self { before })
    }
}

impl Drop for Lowered {
    fn drop(&mut self) {
        set(self.before);
    }
}

/// [`PR_GET_TIMERSLACK(2const)`](https://man7.org/linux/man-pages/man2/PR_GET_TIMERSLACK.2const.html).
/// Not positive if the kernel does not say.
///
/// libc's `prctl` returns an `int`, for which four seconds are too much.
fn get() -> c_long {
    // SAFETY: the call takes no memory.
    unsafe { libc::syscall(libc::SYS_prctl, libc::PR_GET_TIMERSLACK, 0, 0, 0, 0) }
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

    /// Runs `f` in a thread of its own, whose slack is its own.
    fn apart(f: impl FnOnce() + Send + 'static) {
        std::thread::spawn(f).join().expect("the test passes");
    }

    #[test]
    fn smoke() {
        apart(|| {
            let before = get();
            assert_eq!(punctually(get), before, "it was small already");
        });
    }

    #[test]
    fn a_large_slack_is_small_during_a_sleep() {
        apart(|| {
            for slack in [10_000_001, 1 << 31, 5_000_000_000, 1 << 62] {
                assert!(set(slack));
                assert_eq!(punctually(get), 50_000);
                assert_eq!(get(), slack.cast_signed());
            }
        });
    }

    #[test]
    fn a_small_slack_stays() {
        apart(|| {
            for slack in [1, 50_000, 10_000_000] {
                assert!(set(slack));
                assert_eq!(punctually(get), slack.cast_signed());
                assert_eq!(get(), slack.cast_signed());
            }
        });
    }

    #[test]
    fn a_panic_restores_it() {
        apart(|| {
            assert!(set(5_000_000_000));
            let panicked = std::panic::catch_unwind(|| punctually(|| panic!("a test's panic")));
            assert!(panicked.is_err());
            assert_eq!(get(), 5_000_000_000);
        });
    }
}
