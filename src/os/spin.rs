//! A short wait on the processor, before a long one in the kernel.
//!
//! A spin that ends with what it waits for saves the cost of falling asleep and being
//! woken. One that does not has wasted its time, and that of whoever could have used the
//! processor. So a spin is no longer than that cost: it is twice the best that was
//! possible at worst (competitive spinning: Karlin, Li, Manasse and Owicki, "Empirical
//! studies of competitive spinning for a shared-memory multiprocessor", SOSP 1991). And
//! where spins were in vain several times in a row, because waits are long here, or
//! the one that is waited for has no processor to run on, the thread spins only now
//! and then, to see whether that has changed. Measurements are in docs/design.md.

use std::cell::Cell;
use std::hint;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::LocalKey;
use std::time::Duration;

use super::clock::Deadline;
use super::process;

/// How long [`until`] spins at most: about what falling asleep and being woken costs.
const LIMIT: Duration = Duration::from_micros(15);

/// Pauses between two looks at the clock.
const BURST: u32 = 32;

/// How long [`sparsely_until`] waits for its first look; then twice as long each time.
const FIRST_GAP: Duration = Duration::from_nanos(200);

/// How often it looks: for the last time after 15 gaps, 3 µs. (With two more, throughput
/// is the same, and those who have slept get less of it.)
const LOOKS: u32 = 4;

/// After so many spins in vain, spinning is not worth it,
const DISCOURAGED: u8 = 4;

/// but for the 16th wait, the 32nd, the 64th, and from then on each 128th.
const FIRST_PROBE: u8 = 16;

thread_local! {
    /// For how many waits, by the one way and by the other, no spin has helped.
    static IN_VAIN: Cell<u8> = const { Cell::new(0) };
    static IN_VAIN_SPARSELY: Cell<u8> = const { Cell::new(0) };
}

/// Spins until `done` says so, for [`LIMIT`] (and one burst) at most. Returns
/// whether it did. For what comes once, and soon.
///
/// `done` must only read. With one processor there is nobody to wait for, so
/// nothing is spent.
pub(crate) fn until(mut done: impl FnMut() -> bool) -> bool {
    done()
        || if_it_helps(&IN_VAIN, |hope| {
            // Somebody who has lost hope as well is asleep, and first must wake.
            let limit = if hope == Hope::Lost { LIMIT * 4 } else { LIMIT };
            tightly(&mut done, limit)
        })
}

/// The same for what comes and goes, at the hands of those who work on it: each look
/// takes the cache line from them, and they get less done by it than the one who looks.
/// So it looks a few times only, more and more rarely.
pub(crate) fn sparsely_until(mut done: impl FnMut() -> bool) -> bool {
    if_it_helps(&IN_VAIN_SPARSELY, |_| sparsely(&mut done))
}

#[derive(PartialEq, Eq)]
enum Hope {
    Good,
    /// It may have come back.
    Lost,
}

/// Spins, unless there is no hope that it helps.
fn if_it_helps(in_vain: &'static LocalKey<Cell<u8>>, spin: impl FnOnce(Hope) -> bool) -> bool {
    let before = in_vain.get();
    let hope = match before {
        0..DISCOURAGED => Some(Hope::Good),
        FIRST_PROBE.. if before.is_power_of_two() => Some(Hope::Lost),
        _ => None,
    };
    let helps = has_several_processors() && hope.is_some_and(spin);
    in_vain.set(if helps {
        0
    } else {
        before.checked_add(1).unwrap_or(1 << 7)
    });
    helps
}

fn tightly(mut done: impl FnMut() -> bool, limit: Duration) -> bool {
    let limit = Deadline::after(limit);
    loop {
        for _ in 0..BURST {
            hint::spin_loop();
            if done() {
                return true;
            }
        }
        if limit.has_passed() {
            return false;
        }
    }
}

fn sparsely(mut done: impl FnMut() -> bool) -> bool {
    let mut look = Deadline::now();
    let mut gap = FIRST_GAP;
    for _ in 0..LOOKS {
        look = look.plus(gap);
        while !look.has_passed() {
            hint::spin_loop();
        }
        if done() {
            return true;
        }
        gap *= 2;
    }
    false
}

/// Whether the machine has more than one processor online, asked once. What this
/// process alone may use is not the question: the others may use the rest.
///
/// A plain word and no `OnceLock`: a process that forks while another thread is
/// asking would leave its child a lock that nobody opens.
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
        assert!(until(|| true));
        let before = Deadline::now();
        assert!(!until(|| false));
        if has_several_processors() {
            assert!(before.plus(LIMIT).has_passed());
        }
    }

    #[test]
    fn sparse_looks_are_counted() {
        let mut looks = 0;
        let before = Deadline::now();
        assert!(!sparsely_until(|| {
            looks += 1;
            false
        }));
        if has_several_processors() {
            assert_eq!(looks, LOOKS);
            assert!(before.plus(FIRST_GAP * (2_u32.pow(LOOKS) - 1)).has_passed());
        }
        assert_eq!(sparsely_until(|| true), has_several_processors());
    }

    #[test]
    fn who_spins_in_vain_spins_less_until_it_helps() {
        if !has_several_processors() {
            return;
        }
        let spins = |waits: u32| {
            let mut spins = 0;
            for _ in 0..waits {
                let mut has_looked = false;
                assert!(!sparsely_until(|| {
                    has_looked = true;
                    false
                }));
                spins += u32::from(has_looked);
            }
            spins
        };
        assert_eq!(spins(4), 4);
        assert_eq!(spins(128), 4);
        assert_eq!(spins(1280), 10);
        while !sparsely_until(|| true) {}
        assert_eq!(spins(4), 4);
    }

    #[test]
    fn it_looks_again() {
        let mut looks = 0;
        let seen = until(|| {
            looks += 1;
            looks == 3
        });
        assert_eq!(seen, has_several_processors());
    }
}
