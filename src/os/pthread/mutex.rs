//! `pthread_mutex_t`: process-shared and robust; a mistake is an error and no hang.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::attr::{MutexAttr, Protocol};
use super::check;
use crate::os::clock::Deadline;

unsafe extern "C" {
    /// Not bound by the `libc` crate. glibc 2.30 and later.
    fn pthread_mutex_clocklock(
        mutex: *mut libc::pthread_mutex_t,
        clock: libc::clockid_t,
        deadline: *const libc::timespec,
    ) -> libc::c_int;
}

/// How long a thread waits for a mutex with priority inheritance at a time. Only a
/// cycle of waits that was broken makes it wait for the end of one in vain.
const SLICE: Duration = Duration::from_millis(150);

/// How long to wait for a mutex that is held.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// Until it is free.
    Forever,
    /// Until it is free, or the deadline has passed.
    Until(Deadline),
    /// Not at all.
    None,
}

/// What came of an attempt to lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The caller holds the mutex.
    Acquired,
    /// The caller holds the mutex, whose last holder died (`EOWNERDEAD`). It
    /// stays in this state until [`PthreadMutex::consistent`].
    OwnerDied,
    /// A thread holds it, perhaps the caller.
    Busy,
    /// The deadline passed (`ETIMEDOUT`).
    TimedOut,
    /// The caller held it already (`EDEADLK`).
    Deadlock,
    /// Somebody unlocked it without making it consistent
    /// (`ENOTRECOVERABLE`): it can never be locked again.
    NotRecoverable,
    /// Any other error number.
    Failed(i32),
}

impl Outcome {
    #[inline]
    pub(super) fn of(code: libc::c_int) -> Self {
        if code == 0 {
            return Self::Acquired;
        }
        Self::of_refusal(code)
    }

    #[cold]
    fn of_refusal(code: libc::c_int) -> Self {
        match code {
            libc::EOWNERDEAD => Self::OwnerDied,
            libc::ETIMEDOUT => Self::TimedOut,
            libc::EDEADLK => Self::Deadlock,
            libc::ENOTRECOVERABLE => Self::NotRecoverable,
            other => Self::Failed(other),
        }
    }
}

/// The caller does not hold the mutex it wanted to unlock (`EPERM`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotHeld;

/// A `pthread_mutex_t` at the place where it stays.
///
/// It is inert bytes until [`init`](Self::init), which is why most methods are
/// unsafe: pthread trusts its argument.
#[repr(transparent)]
pub(crate) struct PthreadMutex(UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>);

// SAFETY: all access after `init` goes through pthread calls, which synchronise,
// or through the atomic futex word.
unsafe impl Sync for PthreadMutex {}
// SAFETY: the bytes hold no reference to the thread that made them; a *live*
// mutex is never moved (the contract of `init`).
unsafe impl Send for PthreadMutex {}

impl PthreadMutex {
    /// Bytes that are not a mutex yet.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    fn as_ptr(&self) -> *mut libc::pthread_mutex_t {
        self.0.get().cast()
    }

    /// [`pthread_mutex_init(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutex_init.3p.html).
    ///
    /// # Safety
    ///
    /// * Nobody uses this mutex while the call runs, and none of its earlier
    ///   incarnations is held or waited for.
    /// * It stays at this place in its memory object for as long as it is used.
    pub(crate) unsafe fn init(&self, protocol: Protocol) -> io::Result<()> {
        let mut attr = MutexAttr::robust(protocol)?;
        // SAFETY: the caller gives exclusive use of the mutex; `attr` is
        // initialised.
        check(unsafe { libc::pthread_mutex_init(self.as_ptr(), attr.as_mut_ptr()) })
    }

    /// [`pthread_mutex_destroy(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutex_destroy.3p.html).
    ///
    /// # Safety
    ///
    /// It is initialised, not held, and nobody else uses it.
    pub(super) unsafe fn destroy(&self) {
        // SAFETY: the caller's promise.
        unsafe { libc::pthread_mutex_destroy(self.as_ptr()) };
    }

    /// Takes the mutex, waiting as long as `patience` says:
    /// [`pthread_mutex_lock(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutex_lock.3p.html), or
    /// [`pthread_mutex_clocklock(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutex_clocklock.3p.html)
    /// on `CLOCK_MONOTONIC`. Signals don't end the wait.
    ///
    /// Not `pthread_mutex_trylock`: when glibc's (2.36 and 2.41) says
    /// `ENOTRECOVERABLE`, it leaves the mutex locked by the caller, and others
    /// wait for ever instead of being told.
    ///
    /// # Safety
    ///
    /// It is initialised, and stays mapped for as long as the caller holds it.
    #[inline]
    pub(crate) unsafe fn acquire(&self, patience: Patience) -> Outcome {
        match patience {
            // SAFETY: the caller's promise.
            Patience::Forever => Outcome::of(unsafe { libc::pthread_mutex_lock(self.as_ptr()) }),
            Patience::Until(deadline) => {
                // SAFETY: the caller's promise.
                unsafe { self.clocklock(libc::CLOCK_MONOTONIC, deadline) }
            }
            // Reading first spares the holder a write to its cache line.
            Patience::None if self.owner_tid() != 0 => Outcome::Busy,
            // Zero is past on any clock, and this one every kernel takes for a
            // mutex with priority inheritance.
            // SAFETY: the caller's promise.
            Patience::None => match unsafe { self.clocklock(libc::CLOCK_REALTIME, Deadline::PAST) }
            {
                Outcome::TimedOut => Outcome::Busy,
                other => other,
            },
        }
    }

    /// As [`acquire`](Self::acquire), for a mutex with [`Protocol::Inherit`] and the
    /// thread `me`.
    ///
    /// The kernel refuses a wait that would close a cycle of such mutexes, and glibc
    /// (2.36 and 2.41) makes of that, if the mutex is error-checking, a failed assertion,
    /// and if it is normal, a sleep until the deadline, which without one is for ever,
    /// whether or not the cycle goes away meanwhile. So it is normal, the caller's own
    /// attempt to lock twice is found here, and no attempt is longer than a
    /// [`SLICE`]: after it the kernel is asked anew.
    ///
    /// # Safety
    ///
    /// As for [`acquire`](Self::acquire).
    pub(crate) unsafe fn acquire_inheriting(&self, me: u32, patience: Patience) -> Outcome {
        let deadline = match patience {
            // SAFETY: the caller's promise. Its deadline is past: it does not sleep.
            Patience::None => return unsafe { self.acquire(patience) },
            _ if self.owner_tid() == me => return Outcome::Deadlock,
            Patience::Forever => None,
            Patience::Until(deadline) => Some(deadline),
        };
        loop {
            let slice = Deadline::after(SLICE);
            let until = deadline.map_or(slice, |deadline| deadline.min(slice));
            // SAFETY: the caller's promise.
            match unsafe { self.acquire(Patience::Until(until)) } {
                Outcome::TimedOut if deadline.is_none_or(|deadline| deadline > until) => {}
                // Such kernels take no deadline on this clock for such a mutex.
                Outcome::Failed(libc::EINVAL) if deadline.is_none() => {
                    // SAFETY: the caller's promise.
                    return unsafe { self.acquire(Patience::Forever) };
                }
                outcome => return outcome,
            }
        }
    }

    /// # Safety
    ///
    /// As for [`acquire`](Self::acquire).
    unsafe fn clocklock(&self, clock: libc::clockid_t, deadline: Deadline) -> Outcome {
        let deadline = deadline.to_timespec();
        // SAFETY: the caller's promise; `deadline` outlives the call.
        Outcome::of(unsafe { pthread_mutex_clocklock(self.as_ptr(), clock, &raw const deadline) })
    }

    /// [`pthread_mutex_consistent(3)`](https://man7.org/linux/man-pages/man3/pthread_mutex_consistent.3.html).
    ///
    /// # Safety
    ///
    /// It is initialised, and the caller holds it after [`Outcome::OwnerDied`].
    pub(crate) unsafe fn consistent(&self) -> io::Result<()> {
        // SAFETY: the caller's promise.
        check(unsafe { libc::pthread_mutex_consistent(self.as_ptr()) })
    }

    /// [`pthread_mutex_unlock(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutex_unlock.3p.html).
    ///
    /// # Safety
    ///
    /// It is initialised. Whether the caller holds it is checked by pthread, as for
    /// every robust mutex.
    #[inline]
    pub(crate) unsafe fn unlock(&self) -> Result<(), NotHeld> {
        // SAFETY: the caller's promise.
        match unsafe { libc::pthread_mutex_unlock(self.as_ptr()) } {
            0 => Ok(()),
            _ => Err(NotHeld),
        }
    }

    /// For [`pthread_cond_wait`](super::cond), which takes both objects.
    pub(super) fn raw(&self) -> *mut libc::pthread_mutex_t {
        self.as_ptr()
    }

    /// The futex word that the kernel's robust list protocol works on
    /// ([futex documentation](https://docs.kernel.org/locking/robust-futex-ABI.html)):
    /// thread id of the holder, `FUTEX_OWNER_DIED`, `FUTEX_WAITERS`.
    fn word(&self) -> u32 {
        // SAFETY: glibc keeps the word at offset 0 of the mutex, which is
        // aligned for it; every writer uses atomic operations, and so does this
        // read.
        let word = unsafe { AtomicU32::from_ptr(self.as_ptr().cast()) };
        // Relaxed: a snapshot; whoever acts on it takes the lock first.
        word.load(Ordering::Relaxed)
    }

    /// The holder's thread id, or 0 if there is none now.
    pub(crate) fn owner_tid(&self) -> u32 {
        self.word() & libc::FUTEX_TID_MASK
    }

    /// Whether the holder died and nobody has locked the mutex since.
    pub(crate) fn owner_died(&self) -> bool {
        self.word() & libc::FUTEX_OWNER_DIED != 0
    }

    /// Whether somebody sleeps until the mutex is given back, or did.
    pub(crate) fn has_waiters(&self) -> bool {
        self.word() & libc::FUTEX_WAITERS != 0
    }

    /// Whether it was given back without having been made consistent: glibc's
    /// `PTHREAD_MUTEX_NOTRECOVERABLE` in its `__owner`.
    pub(crate) fn is_unrecoverable(&self) -> bool {
        const OWNER_AT: usize = 8;
        const NOT_RECOVERABLE: u32 = i32::MAX as u32 - 1;
        // SAFETY: inside the mutex.
        let owner = unsafe { self.as_ptr().byte_add(OWNER_AT) };
        // SAFETY: aligned, as the mutex is to 8 bytes. glibc's writes to it are
        // plain ones, of the whole word; this only reads it.
        let owner = unsafe { AtomicU32::from_ptr(owner.cast()) };
        owner.load(Ordering::Relaxed) == NOT_RECOVERABLE
    }
}
