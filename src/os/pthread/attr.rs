//! Attributes of pthread objects, destroyed by their guards.

use std::io;
use std::mem::MaybeUninit;

use super::outcome::check;

/// The protocol of a mutex: the priority at which its holder runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Protocol {
    /// The holder keeps its priority (`PTHREAD_PRIO_NONE`).
    None = 0,
    /// The holder runs at the highest priority of the waiters
    /// (`PTHREAD_PRIO_INHERIT`).
    PriorityInheritance = 1,
}

/// An initialised `pthread_mutexattr_t`, which `drop` destroys.
pub(super) struct MutexAttr(MaybeUninit<libc::pthread_mutexattr_t>);

impl MutexAttr {
    /// Returns the attributes of a process-shared, robust mutex
    /// ([`pthread_mutexattr_setpshared(3)`], [`pthread_mutexattr_setrobust(3)`],
    /// [`pthread_mutexattr_settype(3p)`], [`pthread_mutexattr_setprotocol(3p)`]).
    ///
    /// The mutex is error-checking. With priority inheritance it is normal instead. If
    /// a C program waits for an error-checking mutex with priority inheritance, and the
    /// kernel returns `EDEADLK`, glibc fails an assertion.
    ///
    /// [`pthread_mutexattr_setpshared(3)`]: https://man7.org/linux/man-pages/man3/pthread_mutexattr_setpshared.3.html
    /// [`pthread_mutexattr_setrobust(3)`]: https://man7.org/linux/man-pages/man3/pthread_mutexattr_setrobust.3.html
    /// [`pthread_mutexattr_settype(3p)`]: https://man7.org/linux/man-pages/man3/pthread_mutexattr_settype.3p.html
    /// [`pthread_mutexattr_setprotocol(3p)`]: https://man7.org/linux/man-pages/man3/pthread_mutexattr_setprotocol.3p.html
    pub(super) fn robust(protocol: Protocol) -> io::Result<Self> {
        let mut attr = MaybeUninit::uninit();
        // SAFETY: `attr` is valid for writes.
        check(unsafe { libc::pthread_mutexattr_init(attr.as_mut_ptr()) })?;
        let mut this = Self(attr);
        let attr = this.as_mut_ptr();
        // SAFETY: `pthread_mutexattr_init` has initialised it.
        check(unsafe { libc::pthread_mutexattr_setpshared(attr, libc::PTHREAD_PROCESS_SHARED) })?;
        // SAFETY: `pthread_mutexattr_init` has initialised it.
        check(unsafe { libc::pthread_mutexattr_setrobust(attr, libc::PTHREAD_MUTEX_ROBUST) })?;
        let (kind, protocol) = match protocol {
            Protocol::None => (libc::PTHREAD_MUTEX_ERRORCHECK, libc::PTHREAD_PRIO_NONE),
            Protocol::PriorityInheritance => {
                (libc::PTHREAD_MUTEX_NORMAL, libc::PTHREAD_PRIO_INHERIT)
            }
        };
        // SAFETY: `pthread_mutexattr_init` has initialised it.
        check(unsafe { libc::pthread_mutexattr_settype(attr, kind) })?;
        // SAFETY: `pthread_mutexattr_init` has initialised it.
        check(unsafe { libc::pthread_mutexattr_setprotocol(attr, protocol) })?;
        Ok(this)
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::pthread_mutexattr_t {
        self.0.as_mut_ptr()
    }
}

impl Drop for MutexAttr {
    fn drop(&mut self) {
        // SAFETY: `robust`, the only constructor, has initialised it.
        unsafe { libc::pthread_mutexattr_destroy(self.as_mut_ptr()) };
    }
}

/// An initialised `pthread_condattr_t`, which `drop` destroys.
pub(super) struct CondAttr(MaybeUninit<libc::pthread_condattr_t>);

impl CondAttr {
    /// Returns the attributes of a process-shared condition variable on
    /// `CLOCK_MONOTONIC` ([`pthread_condattr_setpshared(3p)`],
    /// [`pthread_condattr_setclock(3p)`]).
    ///
    /// [`pthread_condattr_setpshared(3p)`]: https://man7.org/linux/man-pages/man3/pthread_condattr_setpshared.3p.html
    /// [`pthread_condattr_setclock(3p)`]: https://man7.org/linux/man-pages/man3/pthread_condattr_setclock.3p.html
    pub(super) fn shared_monotonic() -> io::Result<Self> {
        let mut attr = MaybeUninit::uninit();
        // SAFETY: `attr` is valid for writes.
        check(unsafe { libc::pthread_condattr_init(attr.as_mut_ptr()) })?;
        let mut this = Self(attr);
        let attr = this.as_mut_ptr();
        // SAFETY: `pthread_condattr_init` has initialised it.
        check(unsafe { libc::pthread_condattr_setpshared(attr, libc::PTHREAD_PROCESS_SHARED) })?;
        // SAFETY: `pthread_condattr_init` has initialised it.
        check(unsafe { libc::pthread_condattr_setclock(attr, libc::CLOCK_MONOTONIC) })?;
        Ok(this)
    }

    pub(super) fn as_mut_ptr(&mut self) -> *mut libc::pthread_condattr_t {
        self.0.as_mut_ptr()
    }
}

impl Drop for CondAttr {
    fn drop(&mut self) {
        // SAFETY: `shared_monotonic`, the only constructor, has initialised it.
        unsafe { libc::pthread_condattr_destroy(self.as_mut_ptr()) };
    }
}
