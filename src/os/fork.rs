//! Detects that this process is a forked child.
//!
//! A process caches facts about itself that are wrong in a forked child.
//! `pthread_atfork` handlers don't run after `_Fork` and `clone`. So this crate uses
//! memory that the kernel wipes whenever it copies an address space: `MADV_WIPEONFORK`
//! ([`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html)).
//!
//! A process has a *fork marker*: a word in such memory. It holds the number of the pid
//! namespace of the process, which is never 0. Everything that is only valid in the
//! process that made it has a reference to the marker of that process.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | this process is a forked child, or has no marker yet: every value that refers to the marker is invalid. Or the kernel wipes no memory |
//! | n | this process has made the marker, and its pid namespace is n |
//!
//! A child makes its marker in another word than all of its ancestors. So a copy from
//! before the fork always refers to a wiped word.
//!
//! Where the kernel refuses `MADV_WIPEONFORK` (gVisor), the word of each marker is
//! always 0. Then each use of the marker asks the kernel, by a system call, whether
//! this process has made it ([`own_page`](super::own_page)). Fast paths read the word
//! only, so there they always leave the work to the slow path.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::mem::{MIN_PAGE, Mapping};
use super::own_page::{self, OwnPage};
use super::process;
use crate::error::IdentityError;

/// The word of a marker that this process has not made.
const WIPED: u32 = 0;

/// The word of [`ForkMarker::unset`].
static UNSET_MARKER: AtomicU32 = AtomicU32::new(WIPED);

/// The word of the newest marker. This process or an ancestor has made it.
static LAST_MARKER: AtomicPtr<AtomicU32> = AtomicPtr::new(ptr::null_mut());

/// A reference to the fork marker of a process. The word is never unmapped.
///
/// It is a pointer, because before Rust 1.90 a constant can't hold a reference to an
/// atomic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForkMarker(*const AtomicU32);

// SAFETY: it is used as a reference to an `AtomicU32`, which is `Sync`.
unsafe impl Send for ForkMarker {}
// SAFETY: as for `Send`.
unsafe impl Sync for ForkMarker {}

/// A fork marker with a flag. It has the size of a pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlaggedMarker(*const AtomicU32);

// SAFETY: as for `ForkMarker`, whose address it has.
unsafe impl Send for FlaggedMarker {}
// SAFETY: as for `Send`.
unsafe impl Sync for FlaggedMarker {}

const _: () = assert!(align_of::<AtomicU32>() > FlaggedMarker::FLAG);

impl FlaggedMarker {
    /// The bit of the flag. It is 0 in the address of a marker.
    const FLAG: usize = 1;

    #[inline]
    pub(crate) fn new(marker: ForkMarker, flag: bool) -> Self {
        Self(marker.0.map_addr(|address| address | usize::from(flag)))
    }

    #[inline]
    pub(crate) fn marker(self) -> ForkMarker {
        ForkMarker(self.0.map_addr(|address| address & !Self::FLAG))
    }

    #[inline]
    pub(crate) fn flag(self) -> bool {
        self.0.addr() & Self::FLAG != 0
    }
}

impl ForkMarker {
    /// Returns a marker that no process has made.
    pub(crate) const fn unset() -> Self {
        Self(&raw const UNSET_MARKER)
    }

    #[inline]
    fn word(self) -> &'static AtomicU32 {
        // SAFETY: the pointer leads to `UNSET_MARKER` or to the word of an `OwnPage`,
        // or `next_slot` has returned it. All of these are initialised and never
        // unmapped.
        unsafe { &*self.0 }
    }

    /// Returns whether this process has made the marker. Returns `false` in a forked
    /// child.
    #[inline]
    pub(crate) fn is_current(self) -> bool {
        self.is_current_fast()
            || OwnPage::of_marker(self.0).is_some_and(OwnPage::is_of_this_process)
    }

    /// Returns whether this process has certainly made the marker. If only a system
    /// call can tell, the result is `false`, and [`is_current`](Self::is_current) asks.
    #[inline]
    pub(crate) fn is_current_fast(self) -> bool {
        self.pid_namespace_fast() != WIPED
    }

    /// Returns the pid namespace of this process, an inode number. The caller has just
    /// checked that the marker is current.
    #[inline]
    pub(crate) fn pid_namespace(self) -> u32 {
        match self.pid_namespace_fast() {
            WIPED => OwnPage::of_marker(self.0).map_or(WIPED, OwnPage::pid_namespace),
            number => number,
        }
    }

    /// Returns the pid namespace of this process, or 0 if this process has not made the
    /// marker, or if only [`pid_namespace`](Self::pid_namespace) can tell.
    #[inline]
    pub(crate) fn pid_namespace_fast(self) -> u32 {
        // Relaxed: a thread reads a value that it has read or written before, or the
        // kernel's zero.
        self.word().load(Ordering::Relaxed)
    }

    /// Returns the marker of this process. Makes it if the process has none since the
    /// last fork.
    pub(crate) fn of_this_process() -> Result<Self, IdentityError> {
        loop {
            // Acquire, and Release below: a thread that reads the pointer sees the
            // memory.
            let last = LAST_MARKER.load(Ordering::Acquire);
            // If the pointer is not null, `next_slot` has returned it.
            if !last.is_null() && Self(last).is_current() {
                return Ok(Self(last));
            }
            let pid_namespace =
                process::read_pid_namespace().map_err(IdentityError::NoPidNamespace)?;
            let next = match next_slot(last) {
                Err(error) if own_page::is_refusal(&error) => {
                    let page =
                        OwnPage::of_this_process().map_err(IdentityError::NoForkDetection)?;
                    page.set_pid_namespace(pid_namespace);
                    return Ok(Self(page.marker()));
                }
                next => next.map_err(IdentityError::NoForkDetection)?,
            };
            // If another thread was faster, the next round finds its marker.
            if LAST_MARKER
                .compare_exchange(last, next, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                let marker = Self(next);
                // A thread that reads the word before this store makes one more marker
                // of the same process. Both are valid.
                marker.word().store(pid_namespace, Ordering::Relaxed);
                return Ok(marker);
            }
        }
    }
}

/// Returns the word after `last` in its page, or the first word of a new page.
///
/// No page is ever unmapped, and no word is used twice. A page is full after as many
/// generations of forks as it has words.
fn next_slot(last: *mut AtomicU32) -> io::Result<*mut AtomicU32> {
    let next = last.wrapping_add(1);
    let is_in_page = next.addr() % MIN_PAGE != 0;
    if !last.is_null() && is_in_page {
        return Ok(next);
    }
    Ok(Mapping::wiped_on_fork()?.leak().as_ptr().cast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        assert!(!ForkMarker::unset().is_current());
        let here = ForkMarker::of_this_process().expect("/proc is mounted");
        assert!(here.is_current());
        let there = std::thread::spawn(ForkMarker::of_this_process);
        let there = there.join().expect("the thread ends");
        let there = there.expect("/proc is mounted");
        assert_eq!(there.pid_namespace(), here.pid_namespace());
    }

    #[test]
    fn flag_does_not_change_the_marker() {
        let marker = ForkMarker::of_this_process().expect("/proc is mounted");
        for flag in [false, true] {
            let flagged = FlaggedMarker::new(marker, flag);
            assert_eq!(flagged.flag(), flag);
            assert!(flagged.marker().is_current());
            assert_eq!(flagged.marker().0, marker.0);
        }
    }

    #[test]
    fn slots_fill_page_after_page() {
        let first = next_slot(std::ptr::null_mut()).unwrap();
        let words = MIN_PAGE / size_of::<AtomicU32>();
        let last = (1..words).fold(first, |slot, _| {
            let next = next_slot(slot).unwrap();
            assert_eq!(next, slot.wrapping_add(1));
            next
        });
        let beyond = next_slot(last).unwrap();
        assert_eq!(beyond.addr() % MIN_PAGE, 0, "a new page begins");
        let full = first.addr()..=last.addr();
        assert!(
            !full.contains(&beyond.addr()),
            "the full page is not reused"
        );
    }
}
