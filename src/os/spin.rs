//! A short wait on the processor, before a long one in the kernel.

use std::hint;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::clock::Deadline;
use super::process;

/// How long a spin lasts at most: about what falling asleep and being woken
/// costs. A wait that ends within it saves that cost; one that does not has
/// cost twice the best that was possible, never more (competitive spinning:
/// Karlin, Li, Manasse and Owicki, "Empirical studies of competitive spinning
/// for a shared-memory multiprocessor", SOSP 1991). The measurement is in
/// docs/design.md.
const LIMIT: Duration = Duration::from_micros(15);

/// Pauses between two looks at the clock.
const BURST: u32 = 32;

/// How long [`sparsely_until`] waits for its first look; then twice as long each time.
const FIRST_GAP: Duration = Duration::from_nanos(200);

/// How often it looks: for the last time after 63 gaps, 12.6 µs.
const LOOKS: u32 = 6;

/// Spins until `done` says so, for [`LIMIT`] (and one burst) at most. Returns
/// whether it did. For what comes once, and soon.
///
/// `done` must only read. With one processor there is nobody to wait for, so
/// nothing is spent.
pub(crate) fn until(mut done: impl FnMut() -> bool) -> bool {
    if done() {
        return true;
    }
    if !has_several_processors() {
        return false;
    }
    let limit = Deadline::after(LIMIT);
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

/// The same for what comes and goes, at the hands of those who work on it: each look
/// takes the cache line from them, and they get less done by it than the one who looks.
/// So it looks a few times only, more and more rarely.
pub(crate) fn sparsely_until(mut done: impl FnMut() -> bool) -> bool {
    if !has_several_processors() {
        return false;
    }
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
    fn it_looks_again() {
        let mut looks = 0;
        let seen = until(|| {
            looks += 1;
            looks == 3
        });
        assert_eq!(seen, has_several_processors());
    }
}
