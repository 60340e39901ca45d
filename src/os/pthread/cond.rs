//! `pthread_cond_t`: process-shared, on the monotonic clock.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;

use super::attr::CondAttr;
use super::check;
use super::mutex::{Outcome, PthreadMutex};
use crate::os::clock::Deadline;
use crate::os::timer_slack::punctually;

/// A `pthread_cond_t` at the place where it stays; inert bytes until
/// [`init`](Self::init).
#[repr(transparent)]
pub(crate) struct PthreadCond(UnsafeCell<MaybeUninit<libc::pthread_cond_t>>);

// SAFETY: all access after `init` goes through pthread calls, which synchronise.
unsafe impl Sync for PthreadCond {}
// SAFETY: the bytes hold no reference to the thread that made them; a *live*
// condition variable is never moved (the contract of `init`).
unsafe impl Send for PthreadCond {}

impl PthreadCond {
    /// Bytes that are not a condition variable yet.
    pub(crate) const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    fn as_ptr(&self) -> *mut libc::pthread_cond_t {
        self.0.get().cast()
    }

    /// [`pthread_cond_init(3p)`](https://man7.org/linux/man-pages/man3/pthread_cond_init.3p.html).
    ///
    /// # Safety
    ///
    /// * Nobody uses it while the call runs.
    /// * It stays at this place in its memory object for as long as it is used.
    pub(crate) unsafe fn init(&self) -> io::Result<()> {
        let mut attr = CondAttr::shared_monotonic()?;
        // SAFETY: the caller gives exclusive use; `attr` is initialised.
        check(unsafe { libc::pthread_cond_init(self.as_ptr(), attr.as_mut_ptr()) })
    }

    /// [`pthread_cond_wait(3p)`](https://man7.org/linux/man-pages/man3/pthread_cond_wait.3p.html),
    /// or `pthread_cond_timedwait` on the monotonic clock. After `Acquired`,
    /// `OwnerDied` and `TimedOut` the caller holds the mutex again.
    ///
    /// # Safety
    ///
    /// * Both objects are initialised, and the caller holds the mutex.
    /// * POSIX forbids concurrent waits with different mutexes. glibc since 2.25
    ///   keeps no reference to the mutex between calls, so there they are
    ///   harmless.
    pub(crate) unsafe fn wait(&self, mutex: &PthreadMutex, deadline: Option<Deadline>) -> Outcome {
        let code = match deadline {
            // SAFETY: the caller's promise.
            None => unsafe { libc::pthread_cond_wait(self.as_ptr(), mutex.as_mut_ptr()) },
            Some(deadline) => {
                let until = deadline.to_timespec();
                // SAFETY: the caller's promise; `until` outlives the call.
                punctually(deadline, || unsafe {
                    libc::pthread_cond_timedwait(
                        self.as_ptr(),
                        mutex.as_mut_ptr(),
                        &raw const until,
                    )
                })
            }
        };
        Outcome::from_errno(code)
    }

    /// [`pthread_cond_signal(3p)`](https://man7.org/linux/man-pages/man3/pthread_cond_signal.3p.html).
    ///
    /// # Safety
    ///
    /// It is initialised.
    pub(crate) unsafe fn signal(&self) {
        // SAFETY: the caller's promise. The call has no error to report.
        unsafe { libc::pthread_cond_signal(self.as_ptr()) };
    }

    /// [`pthread_cond_broadcast(3p)`](https://man7.org/linux/man-pages/man3/pthread_cond_broadcast.3p.html).
    ///
    /// # Safety
    ///
    /// It is initialised.
    pub(crate) unsafe fn broadcast(&self) {
        // SAFETY: the caller's promise. The call has no error to report.
        unsafe { libc::pthread_cond_broadcast(self.as_ptr()) };
    }
}
