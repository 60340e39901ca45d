//! Futexes: sleeping on a 32-bit word that several processes map.
//!
//! Each function makes one operation of [`futex(2)`].
//!
//! [`futex(2)`]: https://man7.org/linux/man-pages/man2/futex.2.html

use std::io;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU32;

use super::clock::Deadline;
use super::timer_slack::punctually;

/// Bits of the lock word of a robust mutex
/// ([documentation](https://docs.kernel.org/locking/robust-futex-ABI.html)).
pub(crate) use libc::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

/// Why [`wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FutexWait {
    /// A wake, a changed word, or a signal. The caller reads the word again.
    Woken,
    /// The deadline has passed.
    TimedOut,
}

/// Calls `FUTEX_WAIT_BITSET`: sleeps while `*word == expected`, until a wake or the
/// absolute monotonic deadline.
///
/// A large timer slack of the thread does not delay the deadline
/// ([`timer_slack`](super::timer_slack)).
///
/// The kernel compares and enqueues in one step. The operation has no
/// `FUTEX_PRIVATE_FLAG`, so that processes which map the page elsewhere can wake this
/// thread.
///
/// # Errors
///
/// The kernel refuses the call, for example by a seccomp filter.
pub(crate) fn wait(
    word: &AtomicU32,
    expected: u32,
    deadline: Option<Deadline>,
) -> io::Result<FutexWait> {
    let sleep = || futex_wait(word, expected, deadline);
    match deadline {
        Some(deadline) => punctually(deadline, sleep),
        None => sleep(),
    }
}

fn futex_wait(
    word: &AtomicU32,
    expected: u32,
    deadline: Option<Deadline>,
) -> io::Result<FutexWait> {
    let timeout = deadline.map(Deadline::to_timespec);
    let timeout_ptr = timeout
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `word` is valid and aligned during the call. `timeout_ptr` is null, or
    // points to `timeout`, which outlives the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            timeout_ptr,
            std::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        )
    };
    if rc == 0 {
        return Ok(FutexWait::Woken);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => Ok(FutexWait::Woken),
        Some(libc::ETIMEDOUT) => Ok(FutexWait::TimedOut),
        _ => Err(error),
    }
}

/// Waits until the deadline, or until a signal arrives.
///
/// It is only for a wait that the kernel has refused. No wake-up can arrive then, so
/// the caller tries again at the deadline.
pub(crate) fn sleep_until_deadline(deadline: Deadline) {
    // No other thread knows this word.
    let _ = wait(&AtomicU32::new(0), 0, Some(deadline));
}

/// Returns whether `*word == value`, where `word` may be unmapped (then `false`):
/// `FUTEX_CMP_REQUEUE`, which wakes no waiter and moves none.
///
/// # Errors
///
/// The kernel refuses the call, for example by a seccomp filter.
pub(crate) fn is_equal(word: *const AtomicU32, value: u32) -> io::Result<bool> {
    const OPERATION: libc::c_int = libc::FUTEX_CMP_REQUEUE | libc::FUTEX_PRIVATE_FLAG;
    const NO_WAITERS: libc::c_ulong = 0;
    // SAFETY: the kernel reads the word if it is mapped, and writes nothing.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word,
            OPERATION,
            NO_WAITERS,
            NO_WAITERS,
            word,
            value,
        )
    };
    if rc >= 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EFAULT) => Ok(false),
        _ => Err(error),
    }
}

/// Why the kernel has not assigned or not unlocked a mutex with priority inheritance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PiRefusal {
    /// The deadline has passed (`ETIMEDOUT`).
    TimedOut,
    /// A signal arrived, the owner is exiting, or `FUTEX_TRYLOCK_PI` found the mutex
    /// held (`EINTR`, `EAGAIN`).
    Again,
    /// The kernel's queue contradicts the word (`EINVAL`).
    Contradiction,
    /// The word names a thread that does not exist, or a thread that can't own a futex
    /// (`ESRCH`, `EPERM`).
    NoOwner,
    /// The wait would close a cycle of waiting threads, or the caller is the owner
    /// (`EDEADLK`).
    Cycle,
    /// Any other error number.
    Other(i32),
}

impl PiRefusal {
    fn last_os_error() -> Self {
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::ETIMEDOUT) => Self::TimedOut,
            Some(libc::EINTR | libc::EAGAIN) => Self::Again,
            Some(libc::EINVAL) => Self::Contradiction,
            Some(libc::ESRCH | libc::EPERM) => Self::NoOwner,
            Some(libc::EDEADLK) => Self::Cycle,
            Some(code) => Self::Other(code),
            None => Self::Other(libc::EIO),
        }
    }
}

/// Calls `FUTEX_LOCK_PI2`: waits until the kernel assigns the mutex to this thread, or
/// until the deadline.
///
/// Before Linux 5.14 it calls `FUTEX_LOCK_PI`, whose deadline is on the wall clock.
/// There the wait is longer if the clock is set back.
pub(crate) fn lock_pi(word: &AtomicU32, deadline: Deadline) -> Result<(), PiRefusal> {
    match pi_operation(word, libc::FUTEX_LOCK_PI2, Some(deadline.to_timespec())) {
        Err(PiRefusal::Other(libc::ENOSYS)) => {
            let deadline = deadline.to_wall_clock();
            pi_operation(word, libc::FUTEX_LOCK_PI, Some(deadline))
        }
        answer => answer,
    }
}

/// Calls `FUTEX_TRYLOCK_PI`: the kernel assigns the mutex to this thread if no thread
/// owns it.
pub(crate) fn trylock_pi(word: &AtomicU32) -> Result<(), PiRefusal> {
    pi_operation(word, libc::FUTEX_TRYLOCK_PI, None)
}

/// Calls `FUTEX_UNLOCK_PI`: the kernel assigns the mutex to the first waiter, or to no
/// thread.
pub(crate) fn unlock_pi(word: &AtomicU32) -> Result<(), PiRefusal> {
    pi_operation(word, libc::FUTEX_UNLOCK_PI, None)
}

fn pi_operation(
    word: &AtomicU32,
    operation: libc::c_int,
    deadline: Option<libc::timespec>,
) -> Result<(), PiRefusal> {
    let deadline = deadline
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `word` is valid and aligned during the call. `deadline` is null, or
    // points to the argument, which outlives the call. The kernel ignores the value 0.
    let rc = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, 0, deadline) };
    match rc {
        0 => Ok(()),
        _ => Err(PiRefusal::last_os_error()),
    }
}

/// How many waiters a call wakes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wake {
    /// The first waiter of the kernel's queue. The queue is ordered by real-time
    /// priority, and then by the time of arrival.
    One,
    /// So many of the first waiters.
    AtMost(u32),
    /// All waiters.
    All,
}

impl Wake {
    /// Returns the number of waiters as an argument of the kernel.
    fn count(self) -> libc::c_int {
        match self {
            Self::One => 1,
            Self::AtMost(count) => libc::c_int::try_from(count).unwrap_or(libc::c_int::MAX),
            Self::All => libc::c_int::MAX,
        }
    }
}

/// Calls `FUTEX_WAKE`. It does not fail for a valid word. If a seccomp filter refuses
/// it, the waiters continue at their next recheck. Returns the number of woken waiters,
/// or `None` if the call was refused.
pub(crate) fn wake(word: &AtomicU32, waiters: Wake) -> Option<usize> {
    wake_at(word, waiters)
}

/// Calls `FUTEX_WAKE` as [`wake`] does, for a word that may be unmapped. Then the
/// kernel wakes no waiter. If the address has a new use, the kernel may wake waiters
/// there needlessly.
pub(crate) fn wake_at(word: *const AtomicU32, waiters: Wake) -> Option<usize> {
    // SAFETY: FUTEX_WAKE uses the address as a key. It reads no memory of this process,
    // and no further argument.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, waiters.count()) };
    usize::try_from(woken).ok()
}

/// Calls `FUTEX_REQUEUE`: moves all waiters of `from` to the queue of `to`, and wakes
/// none. Returns how many have moved.
///
/// The caller must have changed `from`. A waiter that has moved sleeps until a wake of
/// `to`, its deadline or a signal. If it wakes spuriously, or is stopped and continued,
/// the kernel repeats its wait on `from`. The changed word ends that wait. An unchanged
/// one would put the waiter back into the queue of `from`.
///
/// # Errors
///
/// The kernel refuses the call, for example by a seccomp filter, or because a waiter
/// has used an operation with priority inheritance on the word. Then some waiters may
/// have moved.
pub(crate) fn move_waiters(from: &AtomicU32, to: &AtomicU32) -> io::Result<usize> {
    const WAKE_NONE: libc::c_long = 0;
    const MOVE_ALL: libc::c_long = libc::c_int::MAX as libc::c_long;
    // SAFETY: both words are valid and aligned. The kernel uses their addresses as
    // keys.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_futex,
            from.as_ptr(),
            libc::FUTEX_REQUEUE,
            WAKE_NONE,
            MOVE_ALL,
            to.as_ptr(),
        )
    };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// The words on which one thread sleeps at the same time, for [`futex_waitv(2)`].
///
/// [`futex_waitv(2)`]: https://docs.kernel.org/userspace-api/futex2.html
pub(crate) struct WaitList<'a> {
    entries: [WaitEntry; WaitList::CAPACITY],
    len: usize,
    words: PhantomData<&'a AtomicU32>,
}

/// `struct futex_waitv` of `linux/futex.h`.
#[repr(C)]
#[derive(Clone, Copy)]
struct WaitEntry {
    expected: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// Why a wait on a [`WaitList`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ListWait {
    /// A wake of the word at this position.
    Woken(usize),
    /// A word has another value, or a signal arrived.
    Changed,
    /// The deadline has passed.
    TimedOut,
}

impl<'a> WaitList<'a> {
    /// The number of words that the kernel accepts (`FUTEX_WAITV_MAX`).
    pub(crate) const CAPACITY: usize = 128;
    /// `FUTEX2_SIZE_U32`, without `FUTEX2_PRIVATE`.
    const SHARED_U32: u32 = 2;

    /// Makes a list of one word.
    pub(crate) fn new(word: &'a AtomicU32, expected: u32) -> Self {
        const EMPTY: WaitEntry = WaitEntry {
            expected: 0,
            address: 0,
            flags: 0,
            reserved: 0,
        };
        let mut list = Self {
            entries: [EMPTY; Self::CAPACITY],
            len: 0,
            words: PhantomData,
        };
        list.push(word, expected);
        list
    }

    /// Adds a word. Does nothing if the list is full.
    pub(crate) fn push(&mut self, word: &'a AtomicU32, expected: u32) {
        if let Some(entry) = self.entries.get_mut(self.len) {
            *entry = WaitEntry {
                expected: expected.into(),
                address: word.as_ptr().expose_provenance() as u64,
                flags: Self::SHARED_U32,
                reserved: 0,
            };
            self.len += 1;
        }
    }

    /// Sleeps while each word has its expected value, until a wake of any, or the
    /// absolute monotonic deadline.
    ///
    /// # Errors
    ///
    /// The kernel does not know the call (before Linux 5.16), or refuses it, for
    /// example by a seccomp filter.
    pub(crate) fn wait(&self, deadline: Deadline) -> io::Result<ListWait> {
        punctually(deadline, || self.futex_waitv(deadline))
    }

    fn futex_waitv(&self, deadline: Deadline) -> io::Result<ListWait> {
        let timeout = deadline.to_timespec();
        // SAFETY: the first `len` entries name words that are valid and aligned during
        // the call, because the list borrows them. `timeout` outlives the call.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_futex_waitv,
                self.entries.as_ptr(),
                self.len,
                0,
                &raw const timeout,
                libc::CLOCK_MONOTONIC,
            )
        };
        if let Ok(position) = usize::try_from(rc) {
            return Ok(ListWait::Woken(position));
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Ok(ListWait::Changed),
            Some(libc::ETIMEDOUT) => Ok(ListWait::TimedOut),
            _ => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn smoke() {
        let word = AtomicU32::new(7);
        // The word has another value, so the call returns at once.
        assert_eq!(wait(&word, 8, None).unwrap(), FutexWait::Woken);
    }

    #[test]
    fn moved_waiters_are_woken_on_the_other_word() {
        const WAITERS: usize = 3;
        let words = [const { AtomicU32::new(7) }; 2];
        std::thread::scope(|scope| {
            let wait = || {
                let far = Deadline::after(Duration::from_secs(60));
                wait(&words[0], 7, Some(far)).unwrap()
            };
            let waiters: [_; WAITERS] = std::array::from_fn(|_| scope.spawn(wait));
            // The word does not change, so the kernel may put a moved waiter back.
            let mut woken = 0;
            while !waiters.iter().all(|waiter| waiter.is_finished()) {
                move_waiters(&words[0], &words[1]).unwrap();
                let count = wake(&words[1], Wake::AtMost(2)).unwrap();
                assert!(count <= 2, "{count} woken");
                woken += count;
            }
            assert_eq!(woken, WAITERS);
            for waiter in waiters {
                assert_eq!(waiter.join().unwrap(), FutexWait::Woken);
            }
        });
    }

    #[test]
    fn number_of_woken_waiters_saturates() {
        assert_eq!(Wake::One.count(), 1);
        assert_eq!(Wake::AtMost(2).count(), 2);
        assert_eq!(Wake::AtMost(u32::MAX).count(), libc::c_int::MAX);
        assert_eq!(Wake::All.count(), libc::c_int::MAX);
    }

    /// Returns a list of both words, or `None` if the kernel does not know the call.
    fn list_is_supported() -> bool {
        let word = AtomicU32::new(7);
        let supported = WaitList::new(&word, 8).wait(Deadline::now()).is_ok();
        if !supported {
            println!("skipped: no futex_waitv on this kernel");
        }
        supported
    }

    #[test]
    fn list_wait_reports_the_woken_word() {
        if !list_is_supported() {
            return;
        }
        let words = [const { AtomicU32::new(7) }; 2];
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let mut list = WaitList::new(&words[0], 7);
                list.push(&words[1], 7);
                let far = Deadline::after(Duration::from_secs(60));
                list.wait(far).unwrap()
            });
            while !waiter.is_finished() {
                wake(&words[1], Wake::One);
            }
            assert_eq!(waiter.join().unwrap(), ListWait::Woken(1));
        });
    }

    #[test]
    fn list_wait_ends_by_value_and_deadline() {
        if !list_is_supported() {
            return;
        }
        let words = [const { AtomicU32::new(7) }; 2];
        let mut list = WaitList::new(&words[0], 7);
        list.push(&words[1], 8);
        let far = Deadline::after(Duration::from_secs(60));
        assert_eq!(list.wait(far).unwrap(), ListWait::Changed);
        let list = WaitList::new(&words[0], 7);
        let soon = Deadline::after(Duration::from_millis(1));
        assert_eq!(list.wait(soon).unwrap(), ListWait::TimedOut);
        assert!(soon.has_passed());
    }

    #[test]
    fn list_takes_as_many_words_as_the_kernel() {
        if !list_is_supported() {
            return;
        }
        let words = [const { AtomicU32::new(7) }; WaitList::CAPACITY + 9];
        let mut list = WaitList::new(&words[0], 7);
        for word in &words[1..] {
            list.push(word, 7);
        }
        let soon = Deadline::after(Duration::from_millis(1));
        assert_eq!(list.wait(soon).unwrap(), ListWait::TimedOut);
    }

    #[test]
    fn deadline_ends_the_wait() {
        let word = AtomicU32::new(7);
        let deadline = Deadline::after(Duration::from_millis(20));
        assert_eq!(wait(&word, 7, Some(deadline)).unwrap(), FutexWait::TimedOut);
        assert!(deadline.has_passed());
    }

    #[test]
    fn latest_deadline_is_accepted() {
        let word = AtomicU32::new(7);
        let forever = Deadline::after(Duration::MAX);
        assert_eq!(wait(&word, 8, Some(forever)).unwrap(), FutexWait::Woken);
    }
}
