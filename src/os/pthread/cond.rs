//! `pthread_cond_t`: process-shared, on the monotonic clock.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;

use super::attr::CondAttr;
use super::mutex::PthreadMutex;
use super::outcome::{Outcome, check};
use crate::os::clock::Deadline;
use crate::os::timer_slack::punctually;

/// A `pthread_cond_t` at its final address. It is uninitialised until
/// [`init`](Self::init).
#[repr(transparent)]
pub(crate) struct PthreadCond(UnsafeCell<MaybeUninit<libc::pthread_cond_t>>);

// SAFETY: after `init`, threads access the bytes by pthread calls, which synchronise.
unsafe impl Sync for PthreadCond {}
// SAFETY: the bytes have no reference to the thread that wrote them. An initialised
// condition variable is never moved, as the caller of `init` promises.
unsafe impl Send for PthreadCond {}

impl PthreadCond {
    /// Returns an uninitialised condition variable.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    fn as_mut_ptr(&self) -> *mut libc::pthread_cond_t {
        self.0.get().cast()
    }

    /// Calls [`pthread_cond_init(3p)`](https://man7.org/linux/man-pages/man3/pthread_cond_init.3p.html).
    ///
    /// # Safety
    ///
    /// * No thread uses the condition variable during the call.
    /// * It stays at this place in its memory object for as long as it is used.
    pub(crate) unsafe fn init(&self) -> io::Result<()> {
        let mut attr = CondAttr::shared_monotonic()?;
        // SAFETY: no thread uses the condition variable, and it stays in its place, as
        // the caller promises. `attr` is initialised.
        check(unsafe { libc::pthread_cond_init(self.as_mut_ptr(), attr.as_mut_ptr()) })
    }

    /// Calls [`pthread_cond_wait(3p)`](https://man7.org/linux/man-pages/man3/pthread_cond_wait.3p.html),
    /// or `pthread_cond_timedwait` on the monotonic clock. After `Acquired`,
    /// `OwnerDied` and `TimedOut` the caller holds the mutex again.
    ///
    /// # Safety
    ///
    /// * Both objects are initialised.
    /// * The caller holds the mutex.
    /// * No thread waits with another mutex at the same time, or libc permits it. POSIX
    ///   does not. glibc 2.25 and later and musl do, because they keep no reference to
    ///   the mutex between calls.
    pub(crate) unsafe fn wait(&self, mutex: &PthreadMutex, deadline: Option<Deadline>) -> Outcome {
        let code = match deadline {
            // SAFETY: both objects are initialised, the caller holds the mutex, and the
            // other waiters are permitted, as the caller promises.
            None => unsafe { libc::pthread_cond_wait(self.as_mut_ptr(), mutex.as_mut_ptr()) },
            Some(deadline) => {
                let until = deadline.to_timespec();
                // SAFETY: both objects are initialised, the caller holds the mutex, and
                // the other waiters are permitted, as the caller promises. `until`
                // outlives the call.
                punctually(deadline, || unsafe {
                    libc::pthread_cond_timedwait(
                        self.as_mut_ptr(),
                        mutex.as_mut_ptr(),
                        &raw const until,
                    )
                })
            }
        };
        Outcome::from_errno(code)
    }

    /// Calls [`pthread_cond_signal(3p)`](https://man7.org/linux/man-pages/man3/pthread_cond_signal.3p.html).
    ///
    /// # Safety
    ///
    /// * The condition variable is initialised.
    pub(crate) unsafe fn signal(&self) {
        // SAFETY: it is initialised, as the caller promises. The call returns no error.
        unsafe { libc::pthread_cond_signal(self.as_mut_ptr()) };
    }

    /// Calls [`pthread_cond_broadcast(3p)`](https://man7.org/linux/man-pages/man3/pthread_cond_broadcast.3p.html).
    ///
    /// # Safety
    ///
    /// * The condition variable is initialised.
    pub(crate) unsafe fn broadcast(&self) {
        // SAFETY: it is initialised, as the caller promises. The call returns no error.
        unsafe { libc::pthread_cond_broadcast(self.as_mut_ptr()) };
    }
}
