//! Short waits on the processor, before a long wait in the kernel.
//!
//! A spin that succeeds saves the cost of a sleep and a wake-up. A spin that fails
//! costs its own time. Therefore a spin lasts about as long as a sleep and a wake-up,
//! and a thread whose spins fail repeatedly stops spinning, except for rare probes. The
//! measurements are in `docs/decisions/spinning.md`.

use std::cell::Cell;
use std::hint;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::LocalKey;
use std::time::Duration;

use parking_lot_core::SpinWait;

use crate::os::clock::Deadline;
use crate::os::process;

/// Time after which [`spin_until`] stops: about the cost of a sleep and a wake-up.
const LIMIT: Duration = Duration::from_micros(15);

/// Polls of [`spin_until`] between two reads of the clock. The pauses before them last
/// 2, 4, 8, 16 and 32 spin-loop hints. Then they begin again with 2: longer pauses
/// would delay the poll that succeeds.
const POLLS_PER_ROUND: u32 = 5;

/// The pauses of [`spin_for_lock`], one before each poll. The short ones suit a holder
/// that unlocks soon, the long ones a holder that locks again at once. The last one is
/// shorter, because all of them together last 3 µs.
const PAUSES: [Duration; 5] = {
    const SHORT: Duration = Duration::from_nanos(100);
    const LONG: Duration = Duration::from_nanos(1_600);
    const LAST: Duration = Duration::from_nanos(1_100);
    [SHORT, SHORT, SHORT, LONG, LAST]
};

/// Consecutive failed spins after which a thread stops spinning.
const MAX_FAILED_SPINS: u16 = 4;

/// A thread that stopped spinning probes on its 16th, 32nd, 64th wait, and so on up to
/// the [`PROBE_EVERY`]th, and then on each [`PROBE_EVERY`]th.
const PROBE_AFTER: u16 = 16;

/// The largest number of waits from one probe to the next. Two threads on one processor
/// pass a turn in 1.5 µs. There a spin never helps, and a probe of a wait for a
/// condition takes 60 µs.
const PROBE_EVERY: u16 = 1024;

thread_local! {
    /// Consecutive waits of this thread that no spin ended, by kind of spin.
    static FAILED_SPINS: Cell<u16> = const { Cell::new(0) };
    static FAILED_LOCK_SPINS: Cell<u16> = const { Cell::new(0) };
}

/// How long a thread may spin in one wait.
#[derive(PartialEq, Eq)]
enum Budget {
    Normal,
    /// A probe: this thread has stopped spinning and checks whether spins help again.
    Probe,
}

/// Polls `done` until it returns `true`. Returns the last answer. `done` must only
/// read.
///
/// The first poll is at once. The others take at most [`LIMIT`] and one round of polls,
/// or four times the limit and one round in a probe. A thread that has stopped spinning
/// polls only once, except in a probe.
///
/// Use it for an event that happens once, such as a notification. Each poll takes the
/// cache line from the thread that is about to write to it. Therefore the thread pauses
/// between polls, with a backoff.
pub(crate) fn spin_until(mut done: impl FnMut() -> bool) -> bool {
    done()
        || spin_within_budget(&FAILED_SPINS, |budget| {
            let limit = match budget {
                Budget::Normal => LIMIT,
                // The other side may also have stopped spinning and be asleep; allow
                // time for its wake-up.
                Budget::Probe => LIMIT * 4,
            };
            poll(&mut done, limit)
        })
}

/// Polls `is_free` until it returns `true`, at most once after each of [`PAUSES`].
/// Returns the last answer, or `false` without a poll if this thread has stopped
/// spinning. `is_free` must only read.
///
/// Use it for a lock word. Each poll takes the cache line from the holder, so polls are
/// few.
pub(crate) fn spin_for_lock(mut is_free: impl FnMut() -> bool) -> bool {
    spin_within_budget(&FAILED_LOCK_SPINS, |_| poll_after_pauses(&mut is_free))
}

/// Calls `spin`, unless too many spins have failed in a row or there is only one
/// processor. Returns whether the spin succeeded.
fn spin_within_budget(
    failed_spins: &'static LocalKey<Cell<u16>>,
    spin: impl FnOnce(Budget) -> bool,
) -> bool {
    let failed = failed_spins.get();
    let budget = match failed {
        0..MAX_FAILED_SPINS => Some(Budget::Normal),
        PROBE_AFTER.. if failed.is_power_of_two() => Some(Budget::Probe),
        _ => None,
    };
    let succeeded = has_several_processors() && budget.is_some_and(spin);
    failed_spins.set(if succeeded {
        0
    } else {
        match failed + 1 {
            failed if failed == 2 * PROBE_EVERY => PROBE_EVERY,
            failed => failed,
        }
    });
    succeeded
}

fn poll(mut done: impl FnMut() -> bool, limit: Duration) -> bool {
    let limit = Deadline::after(limit);
    let mut pauses = SpinWait::new();
    loop {
        for _ in 0..POLLS_PER_ROUND {
            pauses.spin_no_yield();
            if done() {
                return true;
            }
        }
        if limit.has_passed() {
            return false;
        }
        pauses.reset();
    }
}

fn poll_after_pauses(mut is_free: impl FnMut() -> bool) -> bool {
    let mut next_poll = Deadline::now();
    PAUSES.into_iter().any(|pause| {
        next_poll = next_poll.plus(pause);
        while !next_poll.has_passed() {
            hint::spin_loop();
        }
        is_free()
    })
}

/// Returns whether the machine has more than one online processor, and asks the kernel
/// only once. The affinity mask of this process does not matter: the holder may run on
/// another processor.
///
/// The answer is a plain atomic, because a child that is forked while another thread
/// initialises a `OnceLock` would wait for it forever.
fn has_several_processors() -> bool {
    const UNKNOWN: u8 = 0;
    const ONE: u8 = 1;
    const SEVERAL: u8 = 2;
    static ANSWER: AtomicU8 = AtomicU8::new(UNKNOWN);

    match ANSWER.load(Ordering::Relaxed) {
        UNKNOWN => {
            let several = process::online_processors() > 1;
            ANSWER.store(if several { SEVERAL } else { ONE }, Ordering::Relaxed);
            several
        }
        answer => answer == SEVERAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        assert!(spin_until(|| true));
        let before = Deadline::now();
        assert!(!spin_until(|| false));
        if has_several_processors() {
            assert!(before.plus(LIMIT).has_passed());
        }
    }

    #[test]
    fn lock_spin_polls_once_per_pause() {
        let mut polls = 0;
        let before = Deadline::now();
        assert!(!spin_for_lock(|| {
            polls += 1;
            false
        }));
        if has_several_processors() {
            assert_eq!(polls, PAUSES.len());
            assert!(before.plus(PAUSES.into_iter().sum()).has_passed());
        }
        assert_eq!(spin_for_lock(|| true), has_several_processors());
    }

    #[test]
    fn pauses_are_those_of_the_c_header() {
        let total: Duration = PAUSES.into_iter().sum();
        assert_eq!(total, Duration::from_micros(3));
        let nanos = PAUSES.map(|pause| pause.as_nanos().to_string());
        let list = format!("nanoseconds[] = {{{}}};", nanos.join(", "));
        let header = include_str!("../../include/shm_sync.h");
        assert!(header.contains(&list), "{list}");
    }

    #[test]
    fn failed_spins_stop_spinning_until_one_succeeds() {
        if !has_several_processors() {
            return;
        }
        let spins = |waits: u32| {
            let mut spins = 0;
            for _ in 0..waits {
                let mut has_polled = false;
                assert!(!spin_for_lock(|| {
                    has_polled = true;
                    false
                }));
                spins += u32::from(has_polled);
            }
            spins
        };
        assert_eq!(spins(4), 4);
        let probes_before = (PROBE_EVERY / PROBE_AFTER).ilog2();
        assert_eq!(spins(u32::from(PROBE_EVERY)), probes_before + 1);
        assert_eq!(spins(10 * u32::from(PROBE_EVERY)), 10);
        while !spin_for_lock(|| true) {}
        assert_eq!(spins(4), 4);
    }

    #[test]
    fn polls_repeat_until_done() {
        let mut polls = 0;
        let done = spin_until(|| {
            polls += 1;
            polls == 3
        });
        assert_eq!(done, has_several_processors());
    }
}
