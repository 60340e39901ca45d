//! The process that an object in private memory belongs to.
//!
//! A forked child gets a copy of private memory. The copy of a lock or a condition
//! variable describes the parent: a thread of the parent holds the lock, others wait.
//! No thread of the child will ever unlock it. So such an object has an *owner word*,
//! which names the process that has initialised it. A process that reads another name
//! reinitialises the object before it uses it.
//!
//! | bits | owner word |
//! |---|---|
//! | 0–28 | the private number of the process |
//! | 29 | a thread of that process is reinitialising the object |
//! | 30 | set |
//! | 31 | 0. (It is 1 in the number of every pid namespace. The lowest number is 0xeffffffc.) |
//!
//! # The private number
//!
//! No ancestor of a process has the same number. A process keeps its number in a word
//! that the kernel wipes in each forked child (`MADV_WIPEONFORK`). The child then takes
//! the next number from a counter. The counter is in ordinary memory, of which the
//! child has a copy. So the child's number is larger than those of its ancestors.
//! Siblings may have the same number, because neither has a copy of the other's memory.
//! Where the kernel wipes no memory, the number is that of the [own
//! page](super::own_page).

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use super::clock::{Deadline, RECHECK_INTERVAL};
use super::futex::{self, Wake};
use super::mem::Mapping;
use super::own_page::{self, OwnPage};

/// The bits of an owner word.
mod bits {
    pub(super) const NUMBER: u32 = (1 << 29) - 1;
    pub(super) const BUSY: u32 = 1 << 29;
    pub(super) const PRIVATE: u32 = 1 << 30;
}

/// Returns the owner word of this process.
///
/// # Errors
///
/// The kernel can't tell a forked child from its parent, or has no memory.
pub(crate) fn word_of_this_process() -> io::Result<u32> {
    Ok(bits::PRIVATE | private_number()? & bits::NUMBER)
}

/// Returns whether a word is an owner word, and no pid namespace.
#[inline]
pub(crate) fn is_private(word: u32) -> bool {
    word >> 30 == bits::PRIVATE >> 30
}

/// Calls `renew` if `word` names another process. Then the object beside the word is a
/// copy made by a fork. Afterwards `word` names this process. While one thread calls
/// `renew`, other threads wait here.
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
        if found == ours | bits::BUSY {
            // Another thread of this process writes a few words, and then wakes this
            // one.
            futex::wait(word, found, Some(Deadline::after(RECHECK_INTERVAL)))?;
            continue;
        }
        let claimed = word.compare_exchange(
            found,
            ours | bits::BUSY,
            Ordering::Acquire,
            Ordering::Relaxed,
        );
        if claimed.is_err() {
            continue;
        }
        let renewed = renew();
        let now = if renewed.is_ok() { ours } else { found };
        // Release: a thread that reads the word sees the reinitialised object.
        word.store(now, Ordering::Release);
        futex::wake(word, Wake::All);
        return renewed;
    }
}

/// The value of the number word before the process takes a number.
const NO_NUMBER: u32 = 0;

/// The address of the word with this process's number. This process or an ancestor has
/// mapped it. The address is the same in all descendants.
static NUMBER_ADDRESS: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

/// Returns the number of this process: at least 1, and the same for all its threads.
///
/// # Errors
///
/// The kernel can't tell a forked child from its parent, or has no memory.
fn private_number() -> io::Result<u32> {
    /// Whether the kernel wipes no memory. Then each call would map a page in vain.
    static IS_REFUSED: AtomicBool = AtomicBool::new(false);
    if IS_REFUSED.load(Ordering::Relaxed) {
        return Ok(OwnPage::of_this_process()?.number());
    }
    let word = match number_word() {
        Err(error) if own_page::is_refusal(&error) => {
            IS_REFUSED.store(true, Ordering::Relaxed);
            return Ok(OwnPage::of_this_process()?.number());
        }
        word => word?,
    };
    // Relaxed: no other memory depends on the number.
    match word.load(Ordering::Relaxed) {
        NO_NUMBER => {
            let next = own_page::next_number();
            let first =
                word.compare_exchange(NO_NUMBER, next, Ordering::Relaxed, Ordering::Relaxed);
            // If another thread was faster, its number is that of the process.
            Ok(first.map_or_else(|faster| faster, |_| next))
        }
        number => Ok(number),
    }
}

fn number_word() -> io::Result<&'static AtomicU32> {
    // Acquire, and Release below: a thread that reads the pointer sees the memory.
    let mut address = NUMBER_ADDRESS.load(Ordering::Acquire);
    if address.is_null() {
        let page = Mapping::wiped_on_fork()?;
        let new = page.base().as_ptr().cast();
        match NUMBER_ADDRESS.compare_exchange(address, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => address = page.leak().as_ptr().cast(),
            // Another thread was faster. `page` is unmapped.
            Err(faster) => address = faster,
        }
    }
    // SAFETY: the pointer is not null, so it is the first word of a page that is never
    // unmapped.
    Ok(unsafe { &*address })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn smoke() {
        let here = private_number().unwrap();
        assert_ne!(here, 0);
        let there = std::thread::spawn(|| private_number().unwrap())
            .join()
            .unwrap();
        assert_eq!(here, there);
    }

    #[test]
    fn child_has_a_larger_number() {
        let before = private_number().unwrap();
        // SAFETY: the child calls only functions that don't allocate, and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let larger = private_number().is_ok_and(|number| number > before);
            // SAFETY: the call ends the process.
            unsafe { libc::_exit(i32::from(!larger)) };
        }
        let mut status = -1;
        // SAFETY: `status` is valid for writes.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert_eq!(status, 0);
    }

    #[test]
    fn object_of_this_process_is_not_renewed() {
        let ours = word_of_this_process().unwrap();
        assert!(is_private(ours) && is_private(ours | bits::BUSY));
        assert!(
            ![0, 1, u32::MAX, 0xf000_0000, 0xefff_fffc]
                .map(is_private)
                .contains(&true)
        );
        let word = AtomicU32::new(ours);
        renew_if_copied(&word, || panic!("the object belongs to this process")).unwrap();
    }

    #[test]
    fn one_thread_renews_while_others_wait() {
        let word = AtomicU32::new(bits::PRIVATE | bits::NUMBER);
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
    fn failed_renewal_is_repeated() {
        let other = bits::PRIVATE | bits::NUMBER;
        // The word is busy if the parent was renewing when another of its threads
        // forked.
        for other in [other, other | bits::BUSY] {
            let word = AtomicU32::new(other);
            let failed = renew_if_copied(&word, || Err(io::ErrorKind::OutOfMemory.into()));
            assert!(failed.is_err());
            assert_eq!(word.load(Ordering::Relaxed), other);
            renew_if_copied(&word, || Ok(())).unwrap();
            assert_eq!(word.into_inner(), word_of_this_process().unwrap());
        }
    }

    #[test]
    fn numbers_are_documented() {
        documented::bits(
            "owner word",
            &[
                ("NUMBER", bits::NUMBER.into()),
                ("BUSY", bits::BUSY.into()),
                ("PRIVATE", bits::PRIVATE.into()),
            ],
        );
    }
}
