//! Detects forks where the kernel has no `MADV_WIPEONFORK`.
//!
//! An *own page* is a page that forked children don't have: `MADV_DONTFORK`
//! ([`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html)). A read of
//! its address in a child would raise `SIGSEGV`. So this process asks the kernel to
//! compare a word of the page with a number, by a futex call. The kernel returns an
//! error if the page is missing.
//!
//! A child may map other memory at the same address. This can be an own page of the
//! child, but its number is another one, because the counter is in ordinary memory, of
//! which the child has a copy. Any other memory would have to contain [`CONSTANT`] and
//! the number.

use std::io;
use std::num::NonZeroUsize;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::futex;
use super::mem::{Mapping, page_size};

/// Facts about an own page, in memory that forked children have a copy of. They are
/// never unmapped.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct OwnPage {
    /// The word of the fork marker: always 0, so that each use of the marker calls
    /// [`is_of_this_process`](Self::is_of_this_process).
    marker: AtomicU32,
    /// The pid namespace of the process, or 0 if it is not known yet.
    pid_namespace: AtomicU32,
    number: u32,
    page: *const Words,
}

// SAFETY: all threads of a process may read the page, which is never unmapped and not
// written again.
unsafe impl Sync for OwnPage {}

/// The contents of an own page.
#[repr(C)]
struct Words {
    number: AtomicU32,
    constant: [AtomicU32; 3],
}

/// The words after the number. They have no meaning, and other memory does not contain
/// them by accident.
const CONSTANT: [u32; 3] = [0x9e9d_71c5, 0x2f0b_e387, 0xd4a6_5013];

/// The newest own page. This process or an ancestor has made it.
static LAST: AtomicPtr<OwnPage> = AtomicPtr::new(ptr::null_mut());

/// The largest number that this process or an ancestor has taken.
static LAST_NUMBER: AtomicU32 = AtomicU32::new(0);

/// Returns a number that is at least 1. No ancestor of this process had the same when
/// it forked.
pub(crate) fn next_number() -> u32 {
    LAST_NUMBER.fetch_add(1, Ordering::Relaxed) + 1
}

/// Returns whether an error of `madvise` or `mmap` means that the kernel or a sandbox
/// does not support the call, so that this module can help.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EOPNOTSUPP)
    )
}

impl OwnPage {
    /// Returns the own page of this process. Makes it if the process has none. All
    /// threads of a process get the same one.
    ///
    /// # Errors
    ///
    /// The kernel has no `MADV_DONTFORK` or no futexes, or no memory.
    pub(crate) fn of_this_process() -> io::Result<&'static Self> {
        loop {
            let last = Self::last();
            if let Some(page) = last {
                if page.compare()? {
                    return Ok(page);
                }
            }
            let mapping = Self::map()?;
            let new = mapping.base().as_ptr().cast();
            let last = last.map_or(ptr::null_mut(), |page| ptr::from_ref(page).cast_mut());
            // Release: a thread that reads the pointer sees the contents.
            if LAST
                .compare_exchange(last, new, Ordering::Release, Ordering::Relaxed)
                .is_ok()
            {
                mapping.leak();
                // An emulator may give a wrong answer. A second page would not help.
                return match Self::last() {
                    Some(page) if page.compare()? => Ok(page),
                    _ => Err(io::ErrorKind::Unsupported.into()),
                };
            }
            // If another thread was faster, the mapping is unmapped, and the next round
            // finds the page of that thread.
        }
    }

    /// Returns the facts about the newest own page, if `marker` is the word of its fork
    /// marker. In a forked child, they can be those of the parent.
    #[cold]
    pub(crate) fn of_marker(marker: *const AtomicU32) -> Option<&'static Self> {
        Self::last().filter(|page| ptr::eq(page.marker(), marker))
    }

    /// Returns whether this process has made the page. Returns `false` in a forked
    /// child, however it was forked.
    ///
    /// If a sandbox has begun to refuse the call, the result is `false`, and the next
    /// [`of_this_process`](Self::of_this_process) returns the error.
    #[cold]
    pub(crate) fn is_of_this_process(&self) -> bool {
        self.compare().unwrap_or(false)
    }

    /// Returns the word of the fork marker. It is always 0.
    pub(crate) fn marker(&self) -> *const AtomicU32 {
        &raw const self.marker
    }

    /// Returns the number of the process. No ancestor has the same.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Returns the pid namespace that [`set_pid_namespace`](Self::set_pid_namespace)
    /// has recorded.
    pub(crate) fn pid_namespace(&self) -> u32 {
        // Relaxed: all threads of a process store the same number.
        self.pid_namespace.load(Ordering::Relaxed)
    }

    pub(crate) fn set_pid_namespace(&self, number: u32) {
        self.pid_namespace.store(number, Ordering::Relaxed);
    }

    fn last() -> Option<&'static Self> {
        // Acquire: see the compare-exchange in `of_this_process`.
        let last = LAST.load(Ordering::Acquire);
        // SAFETY: the pointer is null, or `map` has initialised the `OwnPage`. It is in
        // the first page of a mapping, which a forked child has as well, and which is
        // never unmapped.
        unsafe { last.as_ref() }
    }

    /// Maps an `OwnPage`, and behind it the page that forked children don't have.
    fn map() -> io::Result<Mapping> {
        let size = page_size();
        let len = NonZeroUsize::new(2 * size).expect("a page is not empty");
        let mapping = Mapping::private(len)?;
        mapping.exclude_from_children(size)?;
        let base = mapping.base().as_ptr();
        let page = base.wrapping_add(size).cast::<Words>();
        let number = next_number();
        // SAFETY: the second page of the new mapping is writable, and no other thread
        // knows it.
        unsafe {
            page.write(Words {
                number: AtomicU32::new(number),
                constant: CONSTANT.map(AtomicU32::new),
            });
        }
        let facts = Self {
            marker: AtomicU32::new(0),
            pid_namespace: AtomicU32::new(0),
            number,
            page,
        };
        // SAFETY: as above, for the first page. A page is longer than the struct.
        unsafe { base.cast::<Self>().write(facts) };
        Ok(mapping)
    }

    /// Asks the kernel whether this process has made the page.
    fn compare(&self) -> io::Result<bool> {
        // In a child, the page may be missing.
        let number = self.page.cast::<AtomicU32>();
        if !futex::is_equal(number, self.number)? {
            return Ok(false);
        }
        // SAFETY: memory with the number is mapped there. It is the page, which is
        // never unmapped. (If it were other memory, which contains the number by
        // accident, another thread of this child would have to unmap it at this
        // moment.)
        let words = unsafe { &*self.page };
        let constant = words.constant.each_ref();
        Ok(constant.map(|word| word.load(Ordering::Relaxed)) == CONSTANT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let page = OwnPage::of_this_process().unwrap();
        assert!(page.is_of_this_process());
        let again = std::thread::spawn(|| OwnPage::of_this_process().unwrap());
        assert!(ptr::eq(page, again.join().unwrap()));
        assert!(OwnPage::of_marker(page.marker()).is_some());
        assert!(OwnPage::of_marker(&raw const page.number as *const AtomicU32).is_none());
    }

    /// Forks with `fork`, and returns whether `check` is true in the child.
    fn is_true_in_child(fork: fn() -> libc::pid_t, check: impl Fn() -> bool) -> bool {
        let child = fork();
        if child == 0 {
            let code = i32::from(!check());
            // SAFETY: the call ends the process.
            unsafe { libc::_exit(code) };
        }
        let mut status = -1;
        // SAFETY: `status` is valid for writes.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        status == 0
    }

    #[test]
    fn child_has_another_page() {
        let fork = || {
            // SAFETY: the child makes system calls only, and ends.
            unsafe { libc::fork() }
        };
        let bare_clone = || {
            // SAFETY: as for `fork`. Without flags, the call needs no memory.
            let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
            child as libc::pid_t
        };
        for fork in [fork as fn() -> libc::pid_t, bare_clone] {
            let page = OwnPage::of_this_process().unwrap();
            let in_child = || {
                let was = page.is_of_this_process();
                let new = OwnPage::of_this_process();
                let is_new =
                    new.is_ok_and(|new| new.number() > page.number() && new.is_of_this_process());
                // The child's page may have the address of the parent's.
                !was && is_new && !page.is_of_this_process()
            };
            assert!(is_true_in_child(fork, in_child));
            assert!(page.is_of_this_process());
        }
    }

    #[test]
    fn other_memory_is_not_the_page() {
        let page = OwnPage::of_this_process().unwrap();
        let words = Words {
            number: AtomicU32::new(page.number()),
            constant: CONSTANT.map(AtomicU32::new),
        };
        let mut other = OwnPage {
            marker: AtomicU32::new(0),
            pid_namespace: AtomicU32::new(0),
            number: page.number(),
            page: &raw const words,
        };
        assert!(other.is_of_this_process());
        words.constant[2].store(0, Ordering::Relaxed);
        assert!(!other.is_of_this_process());
        words.number.store(0, Ordering::Relaxed);
        assert!(!other.is_of_this_process());
        other.page = ptr::without_provenance(page_size());
        assert!(!other.is_of_this_process());
    }
}
