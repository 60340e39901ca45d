//! Sleeping on a 32-bit word that several processes map.

use std::io;
use std::sync::atomic::AtomicU32;

use super::clock::Deadline;
use super::timer_slack::punctually;

/// Bits of the lock word of a robust mutex
/// ([documentation](https://docs.kernel.org/locking/robust-futex-ABI.html)).
pub(crate) use libc::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};

/// Why [`wait`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FutexWait {
    /// A wake, a changed word, or a signal: look at the word again.
    LookAgain,
    /// The deadline passed first.
    TimedOut,
}

/// Sleepers on one word that can be woken apart from each other: some of 32 groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bitset(u32);

impl Bitset {
    /// Whoever sleeps there.
    pub(crate) const ALL: Self = Self(libc::FUTEX_BITSET_MATCH_ANY as u32);

    /// One group. The number counts modulo 32.
    #[inline]
    pub(crate) const fn one(number: u32) -> Self {
        Self(1_u32.rotate_left(number))
    }

    /// All but these.
    #[inline]
    pub(crate) const fn others(self) -> Self {
        Self(!self.0)
    }
}

/// Sleeps while `*word == expected`, until a wake or the deadline: [`wait_bitset`] with no
/// group of its own.
///
/// # Errors
///
/// As [`wait_bitset`].
pub(crate) fn wait(
    word: &AtomicU32,
    expected: u32,
    deadline: Option<Deadline>,
) -> io::Result<FutexWait> {
    wait_bitset(word, expected, Bitset::ALL, deadline)
}

/// [`futex(2)`](https://man7.org/linux/man-pages/man2/futex.2.html),
/// `FUTEX_WAIT_BITSET`: sleeps while `*word == expected`, until a wake that is for one
/// of `groups`, or the absolute monotonic deadline.
///
/// A large timer slack of the thread does not delay the deadline
/// ([`timer_slack`](super::timer_slack)).
///
/// The comparison and the falling asleep are one step to the kernel. The
/// operation is not `FUTEX_PRIVATE_FLAG`, so that it meets wakers in other
/// processes wherever they map the page.
///
/// # Errors
///
/// What the kernel says, were it to refuse the call altogether (a seccomp
/// filter, say).
pub(crate) fn wait_bitset(
    word: &AtomicU32,
    expected: u32,
    groups: Bitset,
    deadline: Option<Deadline>,
) -> io::Result<FutexWait> {
    let sleep = || futex_wait(word, expected, groups, deadline);
    match deadline {
        Some(deadline) => punctually(deadline, sleep),
        None => sleep(),
    }
}

fn futex_wait(
    word: &AtomicU32,
    expected: u32,
    groups: Bitset,
    deadline: Option<Deadline>,
) -> io::Result<FutexWait> {
    let timeout = deadline.map(Deadline::to_timespec);
    let timeout_ptr = timeout
        .as_ref()
        .map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `word` is a live, aligned 32-bit word for the whole call, and
    // `timeout_ptr` is null or points at `timeout`, which outlives the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            timeout_ptr,
            std::ptr::null::<u32>(),
            groups.0,
        )
    };
    if rc == 0 {
        return Ok(FutexWait::LookAgain);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EINTR) => Ok(FutexWait::LookAgain),
        Some(libc::ETIMEDOUT) => Ok(FutexWait::TimedOut),
        _ => Err(error),
    }
}

/// Waits until the deadline, or until a signal arrives: on a word that no other thread
/// knows.
///
/// Only for a wait that the kernel has refused, so that there is nothing to wake this
/// thread when the time has come to try again.
pub(crate) fn sleep_until_deadline(deadline: Deadline) {
    let _ = wait(&AtomicU32::new(0), 0, Some(deadline));
}

/// Why the kernel has not assigned, or not released, a mutex with priority inheritance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PiRefusal {
    /// The deadline has passed (`ETIMEDOUT`).
    TimedOut,
    /// A signal arrived, the owner is exiting, or a try found the mutex held (`EINTR`,
    /// `EAGAIN`).
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

/// [`futex(2)`](https://man7.org/linux/man-pages/man2/futex.2.html), `FUTEX_LOCK_PI2`:
/// waits until the kernel assigns the mutex to this thread, or until the deadline.
///
/// Before Linux 5.14 it is `FUTEX_LOCK_PI`, whose deadline is on the wall clock. There,
/// setting the clock back makes the wait longer.
pub(crate) fn lock_pi(word: &AtomicU32, deadline: Deadline) -> Result<(), PiRefusal> {
    match pi_operation(word, libc::FUTEX_LOCK_PI2, Some(deadline.to_timespec())) {
        Err(PiRefusal::Other(libc::ENOSYS)) => {
            let deadline = deadline.to_wall_clock();
            pi_operation(word, libc::FUTEX_LOCK_PI, Some(deadline))
        }
        answer => answer,
    }
}

/// `FUTEX_TRYLOCK_PI`: has the kernel assign a mutex to this thread that no thread owns.
pub(crate) fn trylock_pi(word: &AtomicU32) -> Result<(), PiRefusal> {
    pi_operation(word, libc::FUTEX_TRYLOCK_PI, None)
}

/// `FUTEX_UNLOCK_PI`: has the kernel assign the mutex to the first waiter, or to no
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
    // SAFETY: `word` is a live, aligned 32-bit word for the whole call; `deadline` is null
    // or points at the argument, which outlives the call. The value is ignored.
    let rc = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, 0, deadline) };
    match rc {
        0 => Ok(()),
        _ => Err(PiRefusal::last_os_error()),
    }
}

/// How many sleepers a wake is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wake {
    /// The one that has slept longest.
    One,
    /// Every one.
    All,
}

/// [`futex(2)`](https://man7.org/linux/man-pages/man2/futex.2.html),
/// `FUTEX_WAKE`. It can't fail for a word that exists; what a filter might
/// refuse is healed by the sleepers themselves.
pub(crate) fn wake(word: &AtomicU32, who: Wake) {
    let count = match who {
        Wake::One => 1,
        Wake::All => libc::c_int::MAX,
    };
    // SAFETY: `word` is a live, aligned 32-bit word; FUTEX_WAKE reads no other
    // argument.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
}

/// `FUTEX_WAKE_BITSET`: wakes the one of `groups` that has slept longest. Otherwise as
/// [`wake`].
pub(crate) fn wake_bitset(word: &AtomicU32, groups: Bitset) {
    // SAFETY: `word` is a live, aligned 32-bit word; FUTEX_WAKE_BITSET reads neither the
    // timeout nor the second word.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE_BITSET,
            1,
            std::ptr::null::<libc::timespec>(),
            std::ptr::null::<u32>(),
            groups.0,
        )
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn smoke() {
        let word = AtomicU32::new(7);
        // A changed word is noticed at once, whatever the deadline.
        assert_eq!(wait(&word, 8, None).unwrap(), FutexWait::LookAgain);
    }

    #[test]
    fn a_wake_is_for_its_groups() {
        let word = AtomicU32::new(7);
        std::thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                let far = Deadline::after(Duration::from_secs(60));
                wait_bitset(&word, 7, Bitset::one(35), Some(far)).unwrap()
            });
            let other = AtomicU32::new(0);
            for _ in 0..20 {
                wake_bitset(&word, Bitset::one(3).others());
                let soon = Deadline::after(Duration::from_millis(1));
                assert_eq!(wait(&other, 0, Some(soon)).unwrap(), FutexWait::TimedOut);
            }
            assert!(!sleeper.is_finished());
            while !sleeper.is_finished() {
                wake_bitset(&word, Bitset::one(3));
            }
            assert_eq!(sleeper.join().unwrap(), FutexWait::LookAgain);
        });
    }

    #[test]
    fn a_deadline_ends_the_sleep() {
        let word = AtomicU32::new(7);
        let deadline = Deadline::after(Duration::from_millis(20));
        assert_eq!(wait(&word, 7, Some(deadline)).unwrap(), FutexWait::TimedOut);
        assert!(deadline.has_passed());
    }

    #[test]
    fn the_farthest_deadline_is_accepted() {
        let word = AtomicU32::new(7);
        let forever = Deadline::after(Duration::MAX);
        assert_eq!(wait(&word, 8, Some(forever)).unwrap(), FutexWait::LookAgain);
    }
}
