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

/// Spins until `done` says so, for [`LIMIT`] (and one burst) at most. Returns
/// whether it did.
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
    fn it_looks_again() {
        let mut looks = 0;
        let seen = until(|| {
            looks += 1;
            looks == 3
        });
        assert_eq!(seen, has_several_processors());
    }
}
