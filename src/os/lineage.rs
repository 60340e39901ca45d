//! Objects in private memory, of which a forked child gets a copy of its own.
//!
//! The child's copy says what was true for the parent: a lock is held by one of the
//! parent's threads, a condition variable has its waiters. No thread of the child will
//! ever change that. So such an object has a word that names the process that it belongs to,
//! and a process that finds another name makes the object anew before it uses it.
//!
//! | bits | the word |
//! |---|---|
//! | 0–28 | the number of the process in its lineage |
//! | 29 | a thread of that process is making the object anew |
//! | 30 | set |
//! | 31 | clear: words that name a pid namespace have it set (the kernel's lowest is 0xeffffffc) |
//!
//! # The number
//!
//! It is one that no ancestor of the process has. It lies in a word that the kernel wipes
//! in every forked child (`MADV_WIPEONFORK`). The child draws the next one. The counter is
//! ordinary memory, which a child inherits, so its number is larger than all of its
//! ancestors'. Siblings may have the same number: neither has a copy of the other's memory.

use std::io;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use super::clock::Deadline;
use super::futex::{self, Wake};
use super::mman::Mapping;

const NUMBER: u32 = (1 << 29) - 1;
const BUSY: u32 = 1 << 29;
const PRIVATE: u32 = 1 << 30;

/// What an object in private memory says if it belongs to this process.
///
/// # Errors
///
/// Where the kernel has no `MADV_WIPEONFORK`, or no memory. Not in a process whose
/// ancestor has called it.
pub(crate) fn word_of_this_process() -> io::Result<u32> {
    Ok(PRIVATE | number()? & NUMBER)
}

/// Whether a word says that its object lies in private memory.
#[inline]
pub(crate) fn is_private(word: u32) -> bool {
    word >> 30 == PRIVATE >> 30
}

/// Makes the object beside `word` this process's own: calls `renew` if it is a copy that
/// came over a fork. While one thread does, the others wait.
///
/// # Errors
///
/// What `renew` returns; then nothing has changed, and the next call tries again.
#[cold]
pub(crate) fn adopt(word: &AtomicU32, renew: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let ours = word_of_this_process()?;
    loop {
        let found = word.load(Ordering::Acquire);
        if found == ours {
            return Ok(());
        }
        if found == ours | BUSY {
            // A thread of this process makes a few words anew, and wakes us.
            let soon = Deadline::after(Duration::from_millis(150));
            futex::wait(word, found, Some(soon))?;
            continue;
        }
        let taken = word.compare_exchange(found, ours | BUSY, Ordering::Acquire, Ordering::Relaxed);
        if taken.is_err() {
            continue;
        }
        let renewed = renew();
        let now = if renewed.is_ok() { ours } else { found };
        // Release: a thread that reads it sees the object as it is now.
        word.store(now, Ordering::Release);
        futex::wake(word, Wake::All);
        return renewed;
    }
}

/// The word of this process. Made by it or by an ancestor, at the same place.
static WORD: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());

/// The number that was drawn last, by this process or an ancestor.
static LAST: AtomicU32 = AtomicU32::new(0);

/// The number of this process: at least 1, and the same for all its threads.
///
/// # Errors
///
/// Where the kernel has no `MADV_WIPEONFORK`, or no memory. Not in a process whose
/// ancestor has got its number.
fn number() -> io::Result<u32> {
    let word = word()?;
    // Relaxed: the number stands for nothing but itself.
    match word.load(Ordering::Relaxed) {
        0 => {
            let drawn = LAST.fetch_add(1, Ordering::Relaxed) + 1;
            let first = word.compare_exchange(0, drawn, Ordering::Relaxed, Ordering::Relaxed);
            // If another thread was faster, its number is that of the process.
            Ok(first.map_or_else(|faster| faster, |_| drawn))
        }
        number => Ok(number),
    }
}

fn word() -> io::Result<&'static AtomicU32> {
    // Acquire, and Release below: a thread that sees the pointer sees the memory.
    let mut at = WORD.load(Ordering::Acquire);
    if at.is_null() {
        let page = Mapping::wiped_on_fork()?;
        let new = page.base().as_ptr().cast();
        match WORD.compare_exchange(at, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => at = page.leak().as_ptr().cast(),
            // `page` is unmapped.
            Err(faster) => at = faster,
        }
    }
    // SAFETY: not null, so it is the first word of a page that is never unmapped.
    Ok(unsafe { &*at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let here = number().unwrap();
        assert_ne!(here, 0);
        let there = std::thread::spawn(|| number().unwrap()).join().unwrap();
        assert_eq!(here, there);
    }

    #[test]
    fn a_wiped_word_is_filled_with_a_larger_number() {
        let before = number().unwrap();
        // In a forked child, where nothing but this happens.
        // SAFETY: the child calls only what allocates nothing, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let larger = number().is_ok_and(|number| number > before);
            // SAFETY: ends the process.
            unsafe { libc::_exit(i32::from(!larger)) };
        }
        let mut status = -1;
        // SAFETY: `status` is valid for writes.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }

    #[test]
    fn an_object_of_this_process_stays_as_it_is() {
        let ours = word_of_this_process().unwrap();
        assert!(is_private(ours) && is_private(ours | BUSY));
        assert!(
            ![0, 1, u32::MAX, 0xf000_0000, 0xefff_fffc]
                .map(is_private)
                .contains(&true)
        );
        let word = AtomicU32::new(ours);
        adopt(&word, || panic!("it is ours already")).unwrap();
    }

    #[test]
    fn one_thread_renews_and_the_others_wait() {
        let word = AtomicU32::new(PRIVATE | NUMBER);
        let renewed = AtomicU32::new(0);
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    adopt(&word, || {
                        renewed.fetch_add(1, Ordering::Relaxed);
                        Ok(())
                    })
                    .unwrap();
                    assert_eq!(renewed.load(Ordering::Relaxed), 1);
                });
            }
        });
    }

    #[test]
    fn a_refusal_leaves_it_to_the_next() {
        let foreign = PRIVATE | NUMBER;
        // Also where the parent was at it when another of its threads forked.
        for foreign in [foreign, foreign | BUSY] {
            let word = AtomicU32::new(foreign);
            let refused = adopt(&word, || Err(io::ErrorKind::OutOfMemory.into()));
            assert!(refused.is_err());
            assert_eq!(word.load(Ordering::Relaxed), foreign);
            adopt(&word, || Ok(())).unwrap();
            assert_eq!(word.into_inner(), word_of_this_process().unwrap());
        }
    }
}
