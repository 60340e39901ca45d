//! Attributes of pthread objects, destroyed by their guards.

use std::io;
use std::mem::MaybeUninit;

use super::check;

/// What happens to the priority of a thread that holds the mutex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Protocol {
    /// Nothing.
    None = 0,
    /// It runs at the highest priority of those that wait
    /// (`PTHREAD_PRIO_INHERIT`).
    PriorityInheritance = 1,
}

/// A `pthread_mutexattr_t` that is initialised for as long as this lives.
pub(super) struct MutexAttr(MaybeUninit<libc::pthread_mutexattr_t>);

impl MutexAttr {
    /// Process-shared, robust and error-checking, or normal if priorities are
    /// inherited, for which [`acquire`] has the reason:
    /// [`pthread_mutexattr_setpshared(3)`](https://man7.org/linux/man-pages/man3/pthread_mutexattr_setpshared.3.html),
    /// [`pthread_mutexattr_setrobust(3)`](https://man7.org/linux/man-pages/man3/pthread_mutexattr_setrobust.3.html),
    /// [`pthread_mutexattr_settype(3p)`](https://man7.org/linux/man-pages/man3/pthread_mutexattr_settype.3p.html).
    ///
    /// [`acquire`]: super::mutex::PthreadMutex::acquire
    pub(super) fn robust(protocol: Protocol) -> io::Result<Self> {
        let mut attr = MaybeUninit::uninit();
        // SAFETY: `attr` is valid for writes.
        check(unsafe { libc::pthread_mutexattr_init(attr.as_mut_ptr()) })?;
        let mut this = Self(attr);
        let attr = this.as_mut_ptr();
        // SAFETY: initialised above.
        check(unsafe { libc::pthread_mutexattr_setpshared(attr, libc::PTHREAD_PROCESS_SHARED) })?;
        // SAFETY: initialised above.
        check(unsafe { libc::pthread_mutexattr_setrobust(attr, libc::PTHREAD_MUTEX_ROBUST) })?;
        let (kind, protocol) = match protocol {
            Protocol::None => (libc::PTHREAD_MUTEX_ERRORCHECK, libc::PTHREAD_PRIO_NONE),
            Protocol::PriorityInheritance => {
                (libc::PTHREAD_MUTEX_NORMAL, libc::PTHREAD_PRIO_INHERIT)
            }
        };
        // SAFETY: initialised above.
        check(unsafe { libc::pthread_mutexattr_settype(attr, kind) })?;
        // SAFETY: initialised above.
        check(unsafe { libc::pthread_mutexattr_setprotocol(attr, protocol) })?;
        Ok(this)
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::pthread_mutexattr_t {
        self.0.as_mut_ptr()
    }
}

impl Drop for MutexAttr {
    fn drop(&mut self) {
        // SAFETY: the only constructor initialised it.
        unsafe { libc::pthread_mutexattr_destroy(self.as_mut_ptr()) };
    }
}

/// A `pthread_condattr_t` that is initialised for as long as this lives.
pub(super) struct CondAttr(MaybeUninit<libc::pthread_condattr_t>);

impl CondAttr {
    /// Process-shared and on `CLOCK_MONOTONIC`:
    /// [`pthread_condattr_setpshared(3p)`](https://man7.org/linux/man-pages/man3/pthread_condattr_setpshared.3p.html),
    /// [`pthread_condattr_setclock(3p)`](https://man7.org/linux/man-pages/man3/pthread_condattr_setclock.3p.html).
    pub(super) fn shared_monotonic() -> io::Result<Self> {
        let mut attr = MaybeUninit::uninit();
        // SAFETY: `attr` is valid for writes.
        check(unsafe { libc::pthread_condattr_init(attr.as_mut_ptr()) })?;
        let mut this = Self(attr);
        let attr = this.as_mut_ptr();
        // SAFETY: initialised above.
        check(unsafe { libc::pthread_condattr_setpshared(attr, libc::PTHREAD_PROCESS_SHARED) })?;
        // SAFETY: initialised above.
        check(unsafe { libc::pthread_condattr_setclock(attr, libc::CLOCK_MONOTONIC) })?;
        Ok(this)
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::pthread_condattr_t {
        self.0.as_mut_ptr()
    }
}

impl Drop for CondAttr {
    fn drop(&mut self) {
        // SAFETY: the only constructor initialised it.
        unsafe { libc::pthread_condattr_destroy(self.as_mut_ptr()) };
    }
}
