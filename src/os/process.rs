//! Who is running: process, thread, pid namespace. Right after any fork.
//!
//! Ownership of a robust mutex is a thread id, so this crate must know the ids
//! of the thread it runs on, and the pid namespace in which they mean
//! something, on every lock. Asking the kernel each time would cost more than
//! the lock, so each thread caches the answer, and the cache must not survive
//! a fork. `pthread_atfork` handlers would miss `_Fork` and `clone`. Memory that
//! the *kernel* wipes whenever it copies an address space misses neither.
//!
//! So a process has a *mark* in such memory: a word that holds the number of
//! its pid namespace, which is never 0. Threads and held locks point at the mark
//! of the process that they belong to.
//!
//! | the mark that I point at says | meaning |
//! |---|---|
//! | 0 | I have just begun, or I am a copy that came over a fork: nothing I know is true |
//! | n | I belong to this process, which lives in pid namespace n |
//!
//! A child makes its mark at another place than any of its ancestors, so a copy
//! from before the fork points at a wiped word for ever.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use nix::sys::stat::{FileStat, fstat, stat};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use super::mman::{MIN_PAGE, Mapping};
use super::pthread::{Entry, Locker, MAX_ROBUST_LOCKS, Position};
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

/// A word that is 0 or the number of a pid namespace: see above.
pub(crate) type Mark = &'static AtomicU32;

/// What a mark says in a process that has not made it.
const WIPED: u32 = 0;

/// What threads point at before they have asked for the first time.
static NO_MARK: AtomicU32 = AtomicU32::new(WIPED);

/// The mark that was made last, by this process or an ancestor.
static LAST_MARK: AtomicPtr<AtomicU32> = AtomicPtr::new(std::ptr::null_mut());

/// What a thread knows of itself. True as long as its mark is not wiped.
pub(crate) struct Thread {
    mark: Cell<Mark>,
    id: Cell<ThreadId>,
    locker: Cell<Locker>,
    /// How many guards of this copy of the crate the thread has.
    locks_held: Cell<u32>,
    /// How many it may have, so that the kernel recovers what other code has locked,
    /// too: [`MAX_ROBUST_LOCKS`] if all are ours. True as long as `top` is.
    limit: Cell<u32>,
    /// The first entry of the thread's robust list when `limit` was true. Null if it
    /// no longer is. `os/pthread/held.rs` has the argument.
    top: Cell<Entry>,
}

thread_local! {
    static THREAD: Thread = const {
        Thread {
            mark: Cell::new(&NO_MARK),
            id: Cell::new(ThreadId::NOBODY),
            locker: Cell::new(Locker::NOBODY),
            locks_held: Cell::new(0),
            limit: Cell::new(MAX_ROBUST_LOCKS),
            top: Cell::new(ptr::null_mut()),
        }
    };
}

impl Thread {
    /// Calls `f` with what this thread knows, true or not: ask
    /// [`pid_namespace`](Self::pid_namespace) whether it is true.
    #[inline]
    pub(crate) fn with_unchecked<R>(f: impl FnOnce(&Self) -> R) -> R {
        // So that `f` and not its call goes into the caller.
        let thread = THREAD.with(std::ptr::from_ref);
        // SAFETY: it has no destructor, so it is there until its thread has ended, and
        // `f` is called by this thread.
        f(unsafe { &*thread })
    }

    /// Calls `f` with what this thread is now, after whatever forks there were,
    /// or with the reason why that can't be known.
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
    pub(crate) fn mark(&self) -> Mark {
        self.mark.get()
    }

    /// The pid namespace of this process: an inode number. 0 if nothing that
    /// the thread knows is true.
    #[inline]
    pub(crate) fn pid_namespace(&self) -> u32 {
        // Relaxed: a thread reads what it wrote or read itself, or the kernel's
        // zero.
        self.mark.get().load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn id(&self) -> ThreadId {
        self.id.get()
    }

    /// The same thread, as robust mutexes know it.
    #[inline]
    pub(crate) fn locker(&self) -> Locker {
        self.locker.get()
    }

    /// Whether the kernel would recover one more lock, if that is known without a walk.
    /// `first` is the first entry of the thread's robust list.
    #[inline]
    pub(crate) fn has_room_above(&self, first: Entry) -> bool {
        self.top.get() == first && self.locks_held.get() < self.limit.get()
    }

    /// Whether the kernel would recover one more lock.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room_above(self.locker.get().first_held()) || self.look_for_room()
    }

    /// Counts all robust mutexes that the thread holds, also those of other code.
    #[cold]
    fn look_for_room(&self) -> bool {
        let locker = self.locker.get();
        let room = MAX_ROBUST_LOCKS - locker.count_held();
        self.limit.set(self.locks_held.get() + room);
        self.top.set(locker.first_held());
        room > 0
    }

    /// Notes that one more robust lock is held, for which there was room. It is now the
    /// first entry of the thread's list.
    #[inline]
    pub(crate) fn lock_taken(&self, first: Entry) {
        self.locks_held.set(self.locks_held.get().wrapping_add(1));
        self.top.set(first);
    }

    /// Notes that the thread gave a robust lock back, which was there on the list.
    #[inline]
    pub(crate) fn lock_given_back(&self, was: Position) {
        self.one_less();
        if self.top.get() == was.entry {
            let all_are_ours = self.limit.get() == MAX_ROBUST_LOCKS;
            self.top.set(if all_are_ours {
                was.next
            } else {
                ptr::null_mut()
            });
        }
    }

    /// Notes that a guard is gone whose lock libc or other code gave back. The next lock
    /// walks the list.
    #[cold]
    pub(crate) fn lock_gone(&self) {
        self.one_less();
        self.top.set(ptr::null_mut());
    }

    /// Notes that libc has given back a lock that is still held, and taken it again.
    #[cold]
    pub(crate) fn lock_moved(&self) {
        self.lock_gone();
    }

    #[inline]
    fn one_less(&self) {
        self.locks_held.set(self.locks_held.get().wrapping_sub(1));
    }

    #[cold]
    fn refresh(&self) -> Result<(), IdentityError> {
        let id = ThreadId::new(std::process::id(), current_tid());
        let locker = Locker::of_this_thread(id.tid())?;
        let mark = mark_of_process()?;
        self.id.set(id);
        self.locker.set(locker);
        // A thread new to the process, and the only thread of a forked child, have no
        // guards. What other code has locked, the first lock counts.
        self.locks_held.set(0);
        self.limit.set(MAX_ROBUST_LOCKS);
        self.top.set(ptr::null_mut());
        self.mark.set(mark);
        Ok(())
    }
}

/// Whether the process that made `mark` is this one, not its forked child.
#[inline]
pub(crate) fn is_ours(mark: Mark) -> bool {
    mark.load(Ordering::Relaxed) != WIPED
}

/// Returns the mark of this process, by which a forked child is told from it.
pub(crate) fn mark() -> Result<Mark, IdentityError> {
    Thread::with(|me| me.map(Thread::mark))
}

/// The pid namespace of this process, by itself.
pub(crate) fn pid_namespace() -> Result<u32, IdentityError> {
    Thread::with(|me| me.map(Thread::pid_namespace))
}

/// The mark of this process, made now if there is none since the last fork.
fn mark_of_process() -> Result<Mark, IdentityError> {
    loop {
        // Acquire, and Release below: whoever sees the pointer sees the memory.
        let last = LAST_MARK.load(Ordering::Acquire);
        // SAFETY: null, or a word that `next_place` found, never unmapped.
        if let Some(mark) = unsafe { last.as_ref() } {
            if is_ours(mark) {
                return Ok(mark);
            }
        }
        let pid_namespace = pid_namespace_id().map_err(IdentityError::NoPidNamespace)?;
        let next = next_place(last).map_err(IdentityError::NoForkDetection)?;
        // If another thread was faster, its mark serves us as well.
        if LAST_MARK
            .compare_exchange(last, next, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
        {
            // SAFETY: as above.
            let mark = unsafe { &*next };
            // A thread that looks before this makes one more mark: no harm.
            mark.store(pid_namespace, Ordering::Relaxed);
            return Ok(mark);
        }
    }
}

/// Where the mark after `last` goes: the next word of the page, or the first
/// of a new page. Pages are never unmapped, and words never used twice. A
/// lineage of forks uses up a page in as many generations as it has words.
fn next_place(last: *mut AtomicU32) -> io::Result<*mut AtomicU32> {
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
/// Each process asks the kernel anew. What the parent knew is no answer: the parent
/// may have called `unshare` or `setns`, which move its children, and from inside a
/// child can't tell that.
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
    // SAFETY: the kernel has just made it for the caller, and nobody else knows it.
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

/// [`tgkill(2)`](https://man7.org/linux/man-pages/man2/tgkill.2.html) with
/// signal 0: whether `tid` is a thread of this very process that has not been
/// reaped. The kernel releases a thread's locks before it frees its id. If the
/// kernel won't say (a seccomp filter), the answer is yes.
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
            Thread::with(|me| me.map(|me| (me.id(), me.pid_namespace()))).unwrap();
        assert_eq!(id.pid(), std::process::id());
        assert_eq!(id.tid(), current_tid());
        assert_ne!(namespace, 0);
    }

    #[test]
    fn threads_share_the_namespace_but_not_the_id() {
        let ask = || Thread::with(|me| me.map(|me| (me.pid_namespace(), me.id()))).unwrap();
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
        let first = next_place(std::ptr::null_mut()).unwrap();
        let words = MIN_PAGE / size_of::<AtomicU32>();
        let last = (1..words).fold(first, |mark, _| {
            let next = next_place(mark).unwrap();
            assert_eq!(next, mark.wrapping_add(1));
            next
        });
        let beyond = next_place(last).unwrap();
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
