//! Who is running: process, thread, pid namespace. Right after any fork.
//!
//! Ownership of a robust mutex is a thread id, so this crate must know the ids
//! of the thread it runs on, and the pid namespace in which they mean
//! something, on every lock. Asking the kernel each time would cost more than
//! the lock, so each thread caches the answer, and the cache must not survive
//! a fork. `pthread_atfork` handlers would miss `_Fork` and `clone`. A page
//! that the *kernel* wipes in every child misses nothing:
//!
//! | the page says | the thread cached | meaning |
//! |---|---|---|
//! | 0 (`WIPED`) | anything | first use in this process, or a fork happened |
//! | epoch E | E | the cache holds |
//! | epoch E | another | first use on this thread, or its cache is from before a fork |
//!
//! Epochs come from a counter in ordinary memory, which a child inherits. A
//! child's epoch is therefore larger than any that its parent's threads cached.

use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use super::mman::Mapping;
use super::pthread;
use crate::error::IdentityError;

/// Process and thread id as one word that fits an atomic.
///
/// | bits | meaning |
/// |---|---|
/// | 0–29 | thread id |
/// | 30–59 | process id |
/// | 60–63 | zero: left to the word that embeds this one |
///
/// Thirty bits hold every id: the kernel's own futex word gives a thread id no
/// more (`FUTEX_TID_MASK`). All bits zero means nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadId(u64);

impl ThreadId {
    const ID_BITS: u32 = 30;
    const ID_MASK: u64 = (1 << Self::ID_BITS) - 1;
    /// All the bits that an id may have.
    pub(crate) const MASK: u64 = (1 << (2 * Self::ID_BITS)) - 1;
    /// No thread at all.
    pub(crate) const NOBODY: Self = Self(0);

    pub(crate) fn new(pid: u32, tid: u32) -> Self {
        Self((u64::from(pid) & Self::ID_MASK) << Self::ID_BITS | (u64::from(tid) & Self::ID_MASK))
    }

    /// Reads an id from a word; bits beyond [`MASK`](Self::MASK) are ignored.
    pub(crate) fn from_word(word: u64) -> Self {
        Self(word & Self::MASK)
    }

    pub(crate) fn to_word(self) -> u64 {
        self.0
    }

    pub(crate) fn pid(self) -> u32 {
        (self.0 >> Self::ID_BITS) as u32
    }

    pub(crate) fn tid(self) -> u32 {
        (self.0 & Self::ID_MASK) as u32
    }
}

/// What the fork page holds in a process that has not written to it.
const WIPED: u32 = 0;
/// What a thread has cached before it first asked; no epoch gets there.
const NEVER: u32 = u32::MAX;

/// Stands in for the fork page until there is one.
static NO_PAGE_YET: AtomicU32 = AtomicU32::new(WIPED);
/// The epoch word of the process: the first word of the fork page, once a
/// thread has mapped it. Null before.
static EPOCH: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());
/// How many epochs this process and its ancestors have begun.
static EPOCHS_BEGUN: AtomicU32 = AtomicU32::new(0);

/// What a thread knows of itself, as it is handed out by [`Thread::with`].
pub(crate) struct Thread {
    /// Where the epoch of the process is: cheaper to reach from here than
    /// through a static.
    epoch_of_process: Cell<&'static AtomicU32>,
    epoch: Cell<u32>,
    pid_namespace: Cell<u32>,
    id: Cell<ThreadId>,
    locks_held: Cell<u32>,
}

thread_local! {
    static THREAD: Thread = const {
        Thread {
            epoch_of_process: Cell::new(&NO_PAGE_YET),
            epoch: Cell::new(NEVER),
            pid_namespace: Cell::new(0),
            id: Cell::new(ThreadId::NOBODY),
            locks_held: Cell::new(0),
        }
    };
}

impl Thread {
    /// Calls `f` with what this thread is, if that is known already.
    #[inline]
    pub(crate) fn with_current<R>(f: impl FnOnce(&Self) -> R) -> Option<R> {
        THREAD.with(|thread| thread.is_current(thread.epoch.get()).then(|| f(thread)))
    }

    /// Calls `f` with what this thread is now, after whatever forks there were,
    /// or with the reason why that can't be known.
    pub(crate) fn with<R>(f: impl FnOnce(Result<&Self, IdentityError>) -> R) -> R {
        THREAD.with(|thread| {
            if thread.is_current(thread.epoch.get()) {
                return f(Ok(thread));
            }
            f(thread.refresh().map(|()| thread))
        })
    }

    #[inline]
    fn is_current(&self, epoch: u32) -> bool {
        // Relaxed: a thread compares what it cached itself, or what the thread
        // that forked this process wrote before.
        self.epoch_of_process.get().load(Ordering::Relaxed) == epoch
    }

    /// The epoch in which this identity holds: until the next fork.
    #[inline]
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch.get()
    }

    /// The pid namespace of this process: an inode number, never 0.
    #[inline]
    pub(crate) fn pid_namespace(&self) -> u32 {
        self.pid_namespace.get()
    }

    #[inline]
    pub(crate) fn id(&self) -> ThreadId {
        self.id.get()
    }

    /// How many robust locks of this crate the thread holds.
    #[inline]
    pub(crate) fn locks_held(&self) -> u32 {
        self.locks_held.get()
    }

    /// Notes that one more robust lock is held.
    #[inline]
    pub(crate) fn lock_taken(&self) {
        self.locks_held.set(self.locks_held.get() + 1);
    }

    #[cold]
    fn refresh(&self) -> Result<(), IdentityError> {
        let id = ThreadId::new(std::process::id(), current_tid());
        let pid_namespace = pid_namespace_id().map_err(IdentityError::NoPidNamespace)?;
        if !kernel_has_robust_list() || pthread::believed_tid() != Some(id.tid()) {
            return Err(IdentityError::RawClone);
        }
        let epoch_of_process = epoch_word().map_err(IdentityError::NoForkDetection)?;
        let epoch = begin_epoch(epoch_of_process);
        self.epoch_of_process.set(epoch_of_process);
        self.id.set(id);
        self.pid_namespace.set(pid_namespace);
        // A thread new to the process, and the only thread of a forked child,
        // both start with an empty robust list.
        self.locks_held.set(0);
        self.epoch.set(epoch);
        Ok(())
    }
}

/// Notes that this thread gave a robust lock back, in the epoch it took it in.
#[inline]
pub(crate) fn lock_given_back() {
    THREAD.with(|thread| thread.locks_held.set(thread.locks_held.get() - 1));
}

/// Whether the process that cached `epoch` is this one, not its forked child.
#[inline]
pub(crate) fn epoch_is_current(epoch: u32) -> bool {
    THREAD.with(|thread| thread.is_current(epoch))
}

/// The pid namespace of this process, by itself.
pub(crate) fn pid_namespace() -> Result<u32, IdentityError> {
    Thread::with(|me| me.map(Thread::pid_namespace))
}

/// The word in the fork page, which is mapped by the first thread to ask.
fn epoch_word() -> io::Result<&'static AtomicU32> {
    // Acquire, and Release below: whoever sees the pointer sees the mapping.
    let mut word = EPOCH.load(Ordering::Acquire);
    if word.is_null() {
        let page = Mapping::wiped_on_fork()?;
        let ours = page.base().as_ptr().cast::<AtomicU32>();
        match EPOCH.compare_exchange(word, ours, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => word = page.leak().as_ptr().cast(),
            Err(theirs) => word = theirs, // another thread was first; ours is unmapped
        }
    }
    // SAFETY: not null any more, so it points at the start of a page that is
    // aligned, zeroed at first, and never unmapped.
    Ok(unsafe { &*word })
}

/// The epoch of this process, begun now if there was none since the last fork.
fn begin_epoch(word: &AtomicU32) -> u32 {
    // Relaxed: the numbers only have to differ.
    let next = EPOCHS_BEGUN.fetch_add(1, Ordering::Relaxed) + 1;
    match word.compare_exchange(WIPED, next, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => next,
        Err(running) => running,
    }
}

/// The id of the caller's pid namespace, from
/// [`pid_namespaces(7)`](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html):
/// the inode number of `/proc/self/ns/pid`. Two live namespaces never share it.
fn pid_namespace_id() -> io::Result<u32> {
    let stat = nix::sys::stat::stat("/proc/self/ns/pid").map_err(super::io_error)?;
    // The kernel keeps it as an unsigned int (`ns_common.inum`), never 0.
    u32::try_from(stat.st_ino)
        .ok()
        .filter(|&id| id != 0)
        .ok_or_else(|| io::Error::other("the namespace id is not a 32-bit number"))
}

/// [`gettid(2)`](https://man7.org/linux/man-pages/man2/gettid.2.html).
fn current_tid() -> u32 {
    u32::try_from(nix::unistd::gettid().as_raw()).unwrap_or(0) // never negative
}

/// [`get_robust_list(2)`](https://man7.org/linux/man-pages/man2/get_robust_list.2.html):
/// whether the kernel knows where this thread keeps its robust locks. libc
/// tells it at thread start and after `fork`; nobody does after a bare `clone`.
fn kernel_has_robust_list() -> bool {
    let mut head: *mut libc::c_void = std::ptr::null_mut();
    let mut len: libc::size_t = 0;
    // SAFETY: both out-pointers are valid for writes of their types; 0 names
    // the calling thread.
    let rc = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    rc == 0 && !head.is_null()
}

/// [`tgkill(2)`](https://man7.org/linux/man-pages/man2/tgkill.2.html) with
/// signal 0: whether `tid` is a thread of this very process that has not been
/// reaped. The kernel releases a thread's locks before it frees its id.
pub(crate) fn is_thread_of_this_process(tid: u32) -> bool {
    // SAFETY: signal 0 sends nothing; no memory is passed.
    let rc = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, 0) };
    rc == 0
}

/// [`sysconf(3)`](https://man7.org/linux/man-pages/man3/sysconf.3.html),
/// `_SC_NPROCESSORS_ONLN`; 1 if it is unknown.
pub(crate) fn online_processors() -> usize {
    // SAFETY: the call takes no memory.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let (id, namespace) =
            Thread::with(|me| me.map(|me| (me.id(), me.pid_namespace()))).unwrap();
        assert_eq!(id.pid(), std::process::id());
        assert_eq!(id.tid(), current_tid());
        assert_ne!(namespace, 0);
    }

    #[test]
    fn threads_share_the_epoch_but_not_the_id() {
        let ask = || Thread::with(|me| me.map(|me| (me.epoch(), me.id()))).unwrap();
        let here = ask();
        let there = std::thread::spawn(ask).join().unwrap();
        assert_eq!(here.0, there.0);
        assert_eq!(here.1.pid(), there.1.pid());
        assert_ne!(here.1.tid(), there.1.tid());
    }

    #[test]
    fn ids_survive_packing() {
        for (pid, tid) in [(1, 1), (4_194_304, 4_194_303), (0x3fff_ffff, 0x3fff_ffff)] {
            let id = ThreadId::new(pid, tid);
            assert_eq!((id.pid(), id.tid()), (pid, tid));
            assert_eq!(ThreadId::from_word(id.to_word()), id);
            assert_eq!(ThreadId::from_word(id.to_word() | 3 << 60), id);
        }
    }

    #[test]
    fn own_threads_are_told_from_others() {
        assert!(is_thread_of_this_process(current_tid()));
        assert!(!is_thread_of_this_process(0x3fff_ffff));
    }
}
