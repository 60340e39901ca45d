//! The calling thread, as libc knows it.

use std::mem::MaybeUninit;

/// Returns the thread id that libc has stored for the calling thread. In a process that
/// was made by a bare `clone`, that is the id of another thread.
///
/// The id is part of the thread's clock:
/// [`pthread_getcpuclockid(3)`](https://man7.org/linux/man-pages/man3/pthread_getcpuclockid.3.html).
pub(crate) fn own_thread_id() -> Option<u32> {
    let mut clock = MaybeUninit::<libc::clockid_t>::uninit();
    // SAFETY: `pthread_self` takes nothing.
    let me = unsafe { libc::pthread_self() };
    // SAFETY: the thread exists, and `clock` is valid for writes.
    let code = unsafe { libc::pthread_getcpuclockid(me, clock.as_mut_ptr()) };
    if code != 0 {
        return None;
    }
    // SAFETY: the call has succeeded, so it has written the clock.
    let clock = unsafe { clock.assume_init() };
    // The kernel's form of a clock of a thread: the complement of the id, and three
    // bits for the kind of the clock (`include/linux/posix-timers.h`).
    u32::try_from(!(clock >> 3)).ok()
}

/// Returns the address by which musl knows the calling thread: `pthread_self(3)`.
#[cfg(target_env = "musl")]
pub(crate) fn own_handle() -> *mut () {
    // SAFETY: the call takes nothing.
    unsafe { libc::pthread_self() }.cast()
}

/// Has `handler` called in each forked child, by its only thread:
/// [`pthread_atfork(3)`](https://man7.org/linux/man-pages/man3/pthread_atfork.3.html).
#[cfg(target_env = "musl")]
pub(crate) fn at_fork_in_child(handler: extern "C" fn()) -> std::io::Result<()> {
    unsafe extern "C" {
        /// Not bound by the `libc` crate for musl.
        fn pthread_atfork(
            prepare: Option<extern "C" fn()>,
            parent: Option<extern "C" fn()>,
            child: Option<extern "C" fn()>,
        ) -> libc::c_int;
    }
    // SAFETY: the function stays loaded, because musl unloads no libraries.
    super::outcome::check(unsafe { pthread_atfork(None, None, Some(handler)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::process;

    #[test]
    fn smoke() {
        assert_eq!(own_thread_id(), Some(process::gettid()));
        let other = std::thread::spawn(|| (own_thread_id(), process::gettid()));
        let (by_libc, by_kernel) = other.join().expect("the thread does not panic");
        assert_eq!(by_libc, Some(by_kernel));
    }
}
