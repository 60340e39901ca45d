//! The identity of the caller: process, thread and pid namespace. It is right after any
//! fork.
//!
//! A robust mutex names its owner by thread id. So for every lock, this crate must know
//! the id of the thread that it runs on, and the pid namespace in which the id has a
//! meaning. Asking the kernel each time would cost more than the lock. So each thread
//! caches the answer, and a fork must invalidate the cache. `pthread_atfork` handlers
//! would miss `_Fork` and `clone`. The kernel misses neither: it wipes memory marked
//! `MADV_WIPEONFORK` whenever it copies an address space.
//!
//! A process has a *mark* in such memory: a word that holds the number of its pid
//! namespace, which is never 0. Each thread, and each proof of a held lock, points at
//! the mark of its process.
//!
//! | the word at the mark | meaning, for the thread or the proof that points at it |
//! |---|---|
//! | 0 | it is new, or a copy that came over a fork: all that it has cached is invalid |
//! | n | it belongs to this process, whose pid namespace is n |
//!
//! A child makes its mark at another place than all of its ancestors. So a copy from
//! before the fork always points at a wiped word.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use nix::sys::stat::{FileStat, fstat, stat};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use super::pthread::{Entry, LockOwner, MAX_ROBUST_LOCKS, Position};
use crate::error::IdentityError;
use crate::os::mem::{MIN_PAGE, Mapping};

/// Process and thread id as one word that fits an atomic.
///
/// | bits | meaning |
/// |---|---|
/// | 0–29 | thread id |
/// | 30–59 | process id |
/// | 60–63 | zero: free for the word that embeds this one |
///
/// Thirty bits hold every id, because the kernel's futex word has no more for a thread
/// id (`FUTEX_TID_MASK`). If all bits are 0, it names no thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ThreadId(u64);

impl ThreadId {
    const ID_BITS: u32 = 30;
    const ID_MASK: u64 = (1 << Self::ID_BITS) - 1;
    /// All the bits that an id may have.
    pub(crate) const MASK: u64 = (1 << (2 * Self::ID_BITS)) - 1;
    /// No thread at all.
    pub(crate) const NONE: Self = Self(0);

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

/// A word that is 0 or the number of a pid namespace: see above.
pub(crate) type ForkMarker = &'static AtomicU32;

/// The word at a mark in a process that has not made it.
const WIPED: u32 = 0;

/// The mark of a thread that has not asked for its identity yet.
static UNSET_MARKER: AtomicU32 = AtomicU32::new(WIPED);

/// The mark that was made last, by this process or an ancestor.
static LAST_MARKER: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());

/// The cached identity of a thread. It is valid as long as its mark is not wiped.
pub(crate) struct ThreadState {
    marker: Cell<ForkMarker>,
    id: Cell<ThreadId>,
    owner: Cell<LockOwner>,
    /// The number of guards of this copy of the crate that the thread has.
    locks_held: Cell<u32>,
    /// The number of guards that the thread may have. It leaves room for the locks of
    /// other code; without those it is [`MAX_ROBUST_LOCKS`]. It is right as long as
    /// `top` is the first entry.
    limit: Cell<u32>,
    /// The first entry of the thread's robust list when `limit` was right. Null if
    /// `limit` may be wrong. `os/pthread/held.rs` has the argument.
    top: Cell<Entry>,
}

thread_local! {
    static THREAD: ThreadState = const {
        ThreadState {
            marker: Cell::new(&UNSET_MARKER),
            id: Cell::new(ThreadId::NONE),
            owner: Cell::new(LockOwner::NONE),
            locks_held: Cell::new(0),
            limit: Cell::new(MAX_ROBUST_LOCKS),
            top: Cell::new(ptr::null_mut()),
        }
    };
}

impl ThreadState {
    /// Calls `f` with the cached identity, valid or not.
    /// [`pid_namespace`](Self::pid_namespace) tells whether it is valid.
    #[inline]
    pub(crate) fn with_cached<R>(f: impl FnOnce(&Self) -> R) -> R {
        // The compiler then inlines `f` itself into the caller.
        let thread = THREAD.with(std::ptr::from_ref);
        // SAFETY: the variable has no destructor, so it is valid until its thread has
        // ended; this thread calls `f`, and `f` can't keep the reference.
        f(unsafe { &*thread })
    }

    /// Calls `f` with the valid identity of this thread, or with the reason why there
    /// is none. Renews the identity after a fork.
    pub(crate) fn with<R>(f: impl FnOnce(Result<&Self, IdentityError>) -> R) -> R {
        THREAD.with(|thread| {
            if thread.pid_namespace() != WIPED {
                return f(Ok(thread));
            }
            f(thread.refresh().map(|()| thread))
        })
    }

    /// The mark of the process that this thread belongs to.
    #[inline]
    pub(crate) fn marker(&self) -> ForkMarker {
        self.marker.get()
    }

    /// Returns the pid namespace of this process, an inode number. It is 0 if the
    /// cached identity is invalid.
    #[inline]
    pub(crate) fn pid_namespace(&self) -> u32 {
        // Relaxed: a thread reads a value that it wrote or read before, or the kernel's
        // zero.
        self.marker.get().load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn id(&self) -> ThreadId {
        self.id.get()
    }

    /// Returns this thread as an owner of robust mutexes.
    #[inline]
    pub(crate) fn owner(&self) -> LockOwner {
        self.owner.get()
    }

    /// Returns whether the kernel would certainly recover one more lock. Does not walk
    /// the list, so it may return `false` although there is room. `first` is the first
    /// entry of the thread's robust list.
    #[inline]
    pub(crate) fn has_room_above(&self, first: Entry) -> bool {
        self.top.get() == first && self.locks_held.get() < self.limit.get()
    }

    /// Returns whether the kernel would recover one more lock. Walks the list if
    /// necessary.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room_above(self.owner.get().first_held()) || self.recount_room()
    }

    /// Counts all robust mutexes that the thread holds, those of other code included,
    /// and returns whether there is room for one more.
    #[cold]
    fn recount_room(&self) -> bool {
        let locker = self.owner.get();
        let room = MAX_ROBUST_LOCKS - locker.count_held();
        self.limit.set(self.locks_held.get() + room);
        self.top.set(locker.first_held());
        room > 0
    }

    /// Notes that the thread has taken one more robust lock, for which there was room.
    /// `first` is its entry, now the first of the thread's list.
    #[inline]
    pub(crate) fn push_lock(&self, first: Entry) {
        self.locks_held.set(self.locks_held.get().wrapping_add(1));
        self.top.set(first);
    }

    /// Notes that the thread has unlocked a robust lock, which was at `was` on its
    /// list.
    #[inline]
    pub(crate) fn pop_lock(&self, was: Position) {
        self.dec_locks_held();
        if self.top.get() == was.entry {
            let all_are_ours = self.limit.get() == MAX_ROBUST_LOCKS;
            self.top.set(if all_are_ours {
                was.next
            } else {
                ptr::null_mut()
            });
        }
    }

    /// Notes that the thread has one guard less, whose lock libc or other code has
    /// unlocked. The next lock walks the list.
    #[cold]
    pub(crate) fn forget_lock(&self) {
        self.dec_locks_held();
        self.top.set(ptr::null_mut());
    }

    /// Notes that libc has unlocked a lock and locked it again, and that the thread has
    /// counted it twice.
    #[cold]
    pub(crate) fn lock_moved(&self) {
        self.forget_lock();
    }

    #[inline]
    fn dec_locks_held(&self) {
        self.locks_held.set(self.locks_held.get().wrapping_sub(1));
    }

    #[cold]
    fn refresh(&self) -> Result<(), IdentityError> {
        let id = ThreadId::new(std::process::id(), current_tid());
        let locker = LockOwner::of_this_thread(id.tid())?;
        let mark = marker_of_process()?;
        self.id.set(id);
        self.owner.set(locker);
        // A new thread, and the only thread of a forked child, have no guards. The
        // first lock counts the locks of other code.
        self.locks_held.set(0);
        self.limit.set(MAX_ROBUST_LOCKS);
        self.top.set(ptr::null_mut());
        self.marker.set(mark);
        Ok(())
    }
}

/// Returns whether this process has made `mark`. A forked child has not.
#[inline]
pub(crate) fn is_current(mark: ForkMarker) -> bool {
    mark.load(Ordering::Relaxed) != WIPED
}

/// Returns the mark of this process, by which a forked child is told from it.
pub(crate) fn current_marker() -> Result<ForkMarker, IdentityError> {
    ThreadState::with(|me| me.map(ThreadState::marker))
}

/// Returns the pid namespace of this process.
pub(crate) fn pid_namespace() -> Result<u32, IdentityError> {
    ThreadState::with(|me| me.map(ThreadState::pid_namespace))
}

/// Returns the mark of this process. Makes it if the process has none since the last
/// fork.
fn marker_of_process() -> Result<ForkMarker, IdentityError> {
    loop {
        // Acquire, and Release below: a thread that sees the pointer sees the memory.
        let last = LAST_MARKER.load(Ordering::Acquire);
        // SAFETY: null, or a word that `next_slot` found, never unmapped.
        if let Some(mark) = unsafe { last.as_ref() } {
            if is_current(mark) {
                return Ok(mark);
            }
        }
        let pid_namespace = pid_namespace_id().map_err(IdentityError::NoPidNamespace)?;
        let next = next_slot(last).map_err(IdentityError::NoForkDetection)?;
        // If another thread was faster, the next round uses its mark.
        if LAST_MARKER
            .compare_exchange(last, next, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            // SAFETY: `next_slot` has found the word, and it is never unmapped.
            let mark = unsafe { &*next };
            // A thread that reads it before this store makes one more mark for the same
            // process. Both are valid.
            mark.store(pid_namespace, Ordering::Relaxed);
            return Ok(mark);
        }
    }
}

/// Returns the place of the mark after `last`: the next word of the page, or the first
/// word of a new page. No page is ever unmapped, and no word used twice. A lineage of
/// forks uses up a page in as many generations as the page has words.
fn next_slot(last: *mut AtomicU32) -> io::Result<*mut AtomicU32> {
    let next = last.wrapping_add(1);
    let is_in_page = !next.addr().is_multiple_of(MIN_PAGE);
    if !last.is_null() && is_in_page {
        return Ok(next);
    }
    Ok(Mapping::wiped_on_fork()?.leak().as_ptr().cast())
}

/// Returns the id of the caller's pid namespace
/// ([`pid_namespaces(7)`](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)):
/// an inode number. Two namespaces that exist at the same time never share it.
///
/// Each process asks the kernel itself. The parent's answer may be wrong for it: the
/// parent may have called `unshare` or `setns`, which put its later children into
/// another namespace. A child can't see that its parent has done so.
fn pid_namespace_id() -> io::Result<u32> {
    // `/proc` first, because it is the older way: a filter of system calls may kill
    // a process for one that it does not know.
    namespace_from_proc().or_else(|error| namespace_from_pidfd().map_err(|_| error))
}

/// Reads the id from `/proc/self/ns/pid`. `self` is the caller, whichever namespace
/// that `/proc` was mounted in; there is no such entry if it does not show the caller.
fn namespace_from_proc() -> io::Result<u32> {
    const LINK: &str = "/proc/self/ns/pid";
    let kind = statfs(LINK).map_err(super::io_error)?.filesystem_type();
    if kind != NSFS_MAGIC {
        return Err(io::Error::other("/proc is not a proc file system"));
    }
    namespace_number(stat(LINK).map_err(super::io_error)?)
}

/// Asks the kernel for the id, which needs no `/proc`:
/// [`pidfd_open(2)`](https://man7.org/linux/man-pages/man2/pidfd_open.2.html) of this
/// process and `PIDFD_GET_PID_NAMESPACE` (Linux 6.11). Neither descriptor outlives
/// the call, and neither can be written to.
fn namespace_from_pidfd() -> io::Result<u32> {
    /// `_IO(0xFF, 5)` of `linux/pidfd.h`.
    const PIDFD_GET_PID_NAMESPACE: libc::c_ulong = NO_DATA | 0xff << 8 | 5;
    /// `_IOC_NONE`.
    const NO_DATA: libc::c_ulong = match cfg!(any(
        target_arch = "mips64",
        target_arch = "powerpc64",
        target_arch = "sparc64"
    )) {
        true => 1 << 29,
        false => 0,
    };
    // SAFETY: no memory is passed.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) };
    let pidfd = owned(pidfd)?;
    // SAFETY: no memory is passed; the descriptor is open.
    let namespace = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_PID_NAMESPACE, 0) };
    let namespace = owned(namespace.into())?;
    namespace_number(fstat(namespace).map_err(super::io_error)?)
}

/// Takes a descriptor over that a system call has just returned.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let number = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for the caller, and no other code owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn namespace_number(stat: FileStat) -> io::Result<u32> {
    // The kernel keeps it as an unsigned int (`ns_common.inum`); it counts from
    // 0xf0000000 and gets neither to 0 nor to u32::MAX.
    u32::try_from(stat.st_ino)
        .ok()
        .filter(|&id| id != 0 && id != u32::MAX)
        .ok_or_else(|| io::Error::other("the namespace id is not a 32-bit number"))
}

/// [`gettid(2)`](https://man7.org/linux/man-pages/man2/gettid.2.html).
fn current_tid() -> u32 {
    u32::try_from(nix::unistd::gettid().as_raw()).unwrap_or(0) // never negative
}

/// Calls [`tgkill(2)`](https://man7.org/linux/man-pages/man2/tgkill.2.html) with signal
/// 0: returns whether `tid` is a thread of this process that has not been reaped. The
/// kernel releases a thread's locks before it frees its id. If the kernel refuses the
/// call (a seccomp filter), the answer is yes.
pub(crate) fn is_thread_of_this_process(tid: u32) -> bool {
    // SAFETY: signal 0 sends nothing; no memory is passed.
    let rc = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, 0) };
    rc == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
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
            ThreadState::with(|me| me.map(|me| (me.id(), me.pid_namespace()))).unwrap();
        assert_eq!(id.pid(), std::process::id());
        assert_eq!(id.tid(), current_tid());
        assert_ne!(namespace, 0);
    }

    #[test]
    fn threads_share_the_namespace_but_not_the_id() {
        let ask = || ThreadState::with(|me| me.map(|me| (me.pid_namespace(), me.id()))).unwrap();
        let here = ask();
        let there = std::thread::spawn(ask).join().unwrap();
        assert_eq!(here.0, there.0);
        assert_eq!(here.1.pid(), there.1.pid());
        assert_ne!(here.1.tid(), there.1.tid());
    }

    #[test]
    fn both_ways_to_ask_for_the_namespace_agree() {
        let by_proc = namespace_from_proc().unwrap();
        match namespace_from_pidfd() {
            Ok(by_pidfd) => assert_eq!(by_pidfd, by_proc),
            Err(error) => println!("skipped: before Linux 6.11: {error}"),
        }
    }

    #[test]
    fn marks_follow_one_another_and_fill_page_after_page() {
        let first = next_slot(std::ptr::null_mut()).unwrap();
        let words = MIN_PAGE / size_of::<AtomicU32>();
        let last = (1..words).fold(first, |mark, _| {
            let next = next_slot(mark).unwrap();
            assert_eq!(next, mark.wrapping_add(1));
            next
        });
        let beyond = next_slot(last).unwrap();
        assert_ne!(beyond, last.wrapping_add(1));
        assert_eq!(beyond.addr() % MIN_PAGE, 0);
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
