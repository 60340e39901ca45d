//! `pthread_mutex_t`: process-shared and robust.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;

use super::attr::{MutexAttr, Protocol};
use super::outcome::{Outcome, check};
use crate::os::clock::Deadline;
use crate::os::timer_slack::punctually;

/// A `pthread_mutex_t` at its final address.
///
/// It is uninitialised until [`init`](Self::init). Most methods are unsafe, because
/// pthread does not check its arguments.
#[repr(transparent)]
pub(crate) struct PthreadMutex(UnsafeCell<MaybeUninit<libc::pthread_mutex_t>>);

// SAFETY: after `init`, threads access the bytes by pthread calls, which synchronise,
// and as atomic words.
unsafe impl Sync for PthreadMutex {}
// SAFETY: the bytes have no reference to the thread that wrote them. An initialised
// mutex is never moved, as the caller of `init` promises.
unsafe impl Send for PthreadMutex {}

impl PthreadMutex {
    /// Returns an uninitialised mutex.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    pub(super) fn as_mut_ptr(&self) -> *mut libc::pthread_mutex_t {
        self.0.get().cast()
    }

    /// Calls [`pthread_mutex_init(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutex_init.3p.html).
    ///
    /// # Safety
    ///
    /// * No thread uses the mutex during the call.
    /// * No thread holds it or waits for it, if it was initialised before.
    /// * It stays at this place in its memory object for as long as it is used.
    pub(crate) unsafe fn init(&self, protocol: Protocol) -> io::Result<()> {
        let mut attr = MutexAttr::robust(protocol)?;
        // SAFETY: no thread uses, holds or waits for the mutex, and it stays in its
        // place, as the caller promises. `attr` is initialised.
        check(unsafe { libc::pthread_mutex_init(self.as_mut_ptr(), attr.as_mut_ptr()) })
    }

    /// Calls [`pthread_mutex_destroy(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutex_destroy.3p.html).
    ///
    /// # Safety
    ///
    /// * The mutex is initialised.
    /// * No thread holds it or uses it.
    pub(crate) unsafe fn destroy(&self) {
        // SAFETY: the mutex is initialised and unused, as the caller promises.
        unsafe { libc::pthread_mutex_destroy(self.as_mut_ptr()) };
    }

    /// Calls [`pthread_mutex_trylock(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutex_trylock.3p.html).
    /// The holder of an error-checking mutex gets [`Outcome::Deadlock`] or
    /// [`Outcome::Busy`], depending on the libc.
    ///
    /// If the mutex is unrecoverable, glibc (2.36 and 2.41) returns
    /// [`Outcome::NotRecoverable`], and the lock word names the caller afterwards.
    ///
    /// # Safety
    ///
    /// * The mutex is initialised.
    /// * It stays mapped for as long as the caller holds it.
    pub(crate) unsafe fn trylock(&self) -> Outcome {
        // SAFETY: the mutex is initialised and stays mapped, as the caller promises.
        Outcome::from_errno(unsafe { libc::pthread_mutex_trylock(self.as_mut_ptr()) })
    }

    /// Calls [`pthread_mutex_clocklock(3p)`] on `CLOCK_MONOTONIC`, or with musl
    /// [`pthread_mutex_timedlock(3p)`].
    ///
    /// After [`Outcome::TimedOut`], glibc leaves the mutex in the `list_op_pending` of
    /// the thread's robust list.
    ///
    /// # Safety
    ///
    /// * The mutex is initialised.
    /// * It stays mapped for as long as the caller holds it.
    ///
    /// [`pthread_mutex_clocklock(3p)`]: https://man7.org/linux/man-pages/man3/pthread_mutex_clocklock.3p.html
    /// [`pthread_mutex_timedlock(3p)`]: https://man7.org/linux/man-pages/man3/pthread_mutex_timedlock.3p.html
    pub(crate) unsafe fn clocklock(&self, deadline: Deadline) -> Outcome {
        Outcome::from_errno(punctually(deadline, || {
            // SAFETY: the mutex is initialised and stays mapped, as the caller
            // promises.
            unsafe { lock_until(self.as_mut_ptr(), deadline) }
        }))
    }

    /// Calls [`pthread_mutex_consistent(3)`](https://man7.org/linux/man-pages/man3/pthread_mutex_consistent.3.html).
    ///
    /// # Safety
    ///
    /// * The mutex is initialised.
    /// * The caller holds it after [`Outcome::OwnerDied`].
    pub(crate) unsafe fn consistent(&self) -> io::Result<()> {
        // SAFETY: the mutex is initialised and held, as the caller promises. libc
        // checks its state.
        check(unsafe { libc::pthread_mutex_consistent(self.as_mut_ptr()) })
    }

    /// Calls [`pthread_mutex_unlock(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutex_unlock.3p.html).
    /// Returns `false` if the caller does not hold the mutex, which pthread checks.
    ///
    /// If the caller has not made the mutex consistent after [`Outcome::OwnerDied`], no
    /// thread can lock it any more.
    ///
    /// # Safety
    ///
    /// * The mutex is initialised.
    pub(crate) unsafe fn unlock(&self) -> bool {
        // SAFETY: the mutex is initialised, as the caller promises.
        unsafe { libc::pthread_mutex_unlock(self.as_mut_ptr()) == 0 }
    }
}

/// Locks a mutex, or returns `ETIMEDOUT` after the deadline.
///
/// # Safety
///
/// * The mutex is initialised.
/// * It stays mapped for as long as the caller holds it.
#[cfg(target_env = "gnu")]
unsafe fn lock_until(mutex: *mut libc::pthread_mutex_t, deadline: Deadline) -> libc::c_int {
    unsafe extern "C" {
        /// Not bound by the `libc` crate. glibc 2.30 and later have it.
        fn pthread_mutex_clocklock(
            mutex: *mut libc::pthread_mutex_t,
            clock: libc::clockid_t,
            deadline: *const libc::timespec,
        ) -> libc::c_int;
    }
    let until = deadline.to_timespec();
    // SAFETY: the mutex is initialised and stays mapped, as the caller promises.
    // `until` outlives the call.
    unsafe { pthread_mutex_clocklock(mutex, libc::CLOCK_MONOTONIC, &raw const until) }
}

/// Locks a mutex, or returns `ETIMEDOUT` after the deadline.
///
/// musl takes a deadline of the wall clock only. If that clock is set during the call,
/// the wait ends too early or too late.
///
/// # Safety
///
/// * The mutex is initialised.
/// * It stays mapped for as long as the caller holds it.
#[cfg(target_env = "musl")]
unsafe fn lock_until(mutex: *mut libc::pthread_mutex_t, deadline: Deadline) -> libc::c_int {
    let until = deadline.to_wall_clock();
    // SAFETY: the mutex is initialised and stays mapped, as the caller promises.
    // `until` outlives the call.
    unsafe { libc::pthread_mutex_timedlock(mutex, &raw const until) }
}
