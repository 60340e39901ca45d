//! Objects in private memory, of which a forked child gets a copy of its own.
//!
//! The child's copy describes the parent: one of the parent's threads holds a lock,
//! others wait on a condition variable. No thread of the child will ever unlock or
//! leave. So such an object has a word that names its process. A process that finds
//! another name initialises the object anew before it uses it.
//!
//! | bits | the word |
//! |---|---|
//! | 0–28 | the number of the process in its lineage |
//! | 29 | a thread of that process initialises the object anew |
//! | 30 | set |
//! | 31 | clear: words that name a pid namespace have it set (the kernel's lowest is 0xeffffffc) |
//!
//! # The number
//!
//! No ancestor of a process has the same number. The number lies in a word that the
//! kernel wipes in every forked child (`MADV_WIPEONFORK`). The child then draws the
//! next number. The counter is ordinary memory, which a child inherits, so the child's
//! number is larger than the numbers of its ancestors. Siblings may have the same
//! number, because neither has a copy of the other's memory.

use std::io;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use super::clock::Deadline;
use super::futex::{self, Wake};
use crate::os::mem::Mapping;

const NUMBER: u32 = (1 << 29) - 1;
const BUSY: u32 = 1 << 29;
const PRIVATE: u32 = 1 << 30;

/// Returns the word of an object in private memory that belongs to this process.
///
/// # Errors
///
/// The kernel has no `MADV_WIPEONFORK`, or no memory. This can't fail in a process
/// whose ancestor has called it with success.
pub(crate) fn word_of_this_process() -> io::Result<u32> {
    Ok(PRIVATE | number()? & NUMBER)
}

/// Returns whether a word belongs to an object in private memory.
#[inline]
pub(crate) fn is_private(word: u32) -> bool {
    word >> 30 == PRIVATE >> 30
}

/// Makes the object beside `word` this process's own: calls `renew` if the object is a
/// copy that came over a fork. While one thread renews it, the others wait.
///
/// # Errors
///
/// Returns the error of `renew`. The word is then as before, and the next call tries
/// again.
#[cold]
pub(crate) fn renew_if_copied(
    word: &AtomicU32,
    renew: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let ours = word_of_this_process()?;
    loop {
        let found = word.load(Ordering::Acquire);
        if found == ours {
            return Ok(());
        }
        if found == ours | BUSY {
            // Another thread of this process writes a few words, and then wakes us.
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

/// The address of the word that holds this process's number. This process or an
/// ancestor has mapped it. It is the same in all descendants.
static WORD: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());

/// The number that was drawn last, by this process or an ancestor.
static LAST: AtomicU32 = AtomicU32::new(0);

/// Returns the number of this process: at least 1, and the same for all its threads.
///
/// # Errors
///
/// The kernel has no `MADV_WIPEONFORK`, or no memory. This can't fail in a process
/// whose ancestor has got its number.
fn number() -> io::Result<u32> {
    let word = word()?;
    // Relaxed: no other memory depends on the number.
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
        renew_if_copied(&word, || panic!("it is ours already")).unwrap();
    }

    #[test]
    fn one_thread_renews_and_the_others_wait() {
        let word = AtomicU32::new(PRIVATE | NUMBER);
        let renewed = AtomicU32::new(0);
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    renew_if_copied(&word, || {
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
            let refused = renew_if_copied(&word, || Err(io::ErrorKind::OutOfMemory.into()));
            assert!(refused.is_err());
            assert_eq!(word.load(Ordering::Relaxed), foreign);
            renew_if_copied(&word, || Ok(())).unwrap();
            assert_eq!(word.into_inner(), word_of_this_process().unwrap());
        }
    }
}
