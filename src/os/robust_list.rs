//! The robust list that a thread has registered with the kernel
//! ([documentation](https://docs.kernel.org/locking/robust-futex-ABI.html)).

use std::ffi::c_long;
use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicPtr;

/// Number of robust locks that the kernel recovers when a thread ends. It reads no
/// further entries of the list (`ROBUST_LIST_LIMIT` in `linux/futex.h`).
pub(crate) const MAX_ROBUST_LOCKS: u32 = 2048;

/// `struct robust_list_head` of `linux/futex.h`.
///
/// In front of it, glibc keeps a pointer to the last entry. So the head has the form of
/// the list node of a mutex.
#[repr(C)]
pub(crate) struct RobustListHead {
    /// The first entry: the mutex that the thread has locked last. It points to the
    /// head if the list is empty.
    pub(crate) list: AtomicPtr<()>,
    /// The distance from an entry to the futex word of its mutex.
    pub(crate) futex_offset: c_long,
    /// The mutex that the thread is locking or unlocking, or null.
    pub(crate) list_op_pending: AtomicPtr<()>,
}

/// Calls [`get_robust_list(2)`] for the calling thread. Returns `None` if the thread
/// has no list registered.
///
/// libc keeps the head mapped until the thread ends.
///
/// [`get_robust_list(2)`]: https://man7.org/linux/man-pages/man2/get_robust_list.2.html
pub(crate) fn head_of_this_thread() -> io::Result<Option<NonNull<RobustListHead>>> {
    let mut head: *mut RobustListHead = ptr::null_mut();
    let mut len: libc::size_t = 0;
    // SAFETY: both out-pointers are valid for writes of their types; 0 names the
    // calling thread.
    let rc = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    match rc {
        0 => Ok(NonNull::new(head)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Calls [`get_robust_list(2)`] for any thread of this process. Returns the address of
/// the head, which the thread may free when it ends. Returns `None` if the thread has
/// no list registered, or has ended.
///
/// [`get_robust_list(2)`]: https://man7.org/linux/man-pages/man2/get_robust_list.2.html
pub(crate) fn head_of(tid: u32) -> io::Result<Option<usize>> {
    let mut head: usize = 0;
    let mut len: libc::size_t = 0;
    // SAFETY: both out-pointers are valid for writes of an address and a length.
    let rc = unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut len) };
    if rc == 0 {
        return Ok(Some(head).filter(|&head| head != 0));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ESRCH) => Ok(None),
        _ => Err(error),
    }
}

/// Calls `set_robust_list(2)` with no list, in a thread that has none. Returns an error
/// if the thread could not register a list. libc ignores that error.
pub(crate) fn check_registration() -> io::Result<()> {
    let none = ptr::null::<RobustListHead>();
    // SAFETY: the kernel records that the thread has no list, which is so.
    let rc = unsafe { libc::syscall(libc::SYS_set_robust_list, none, size_of::<RobustListHead>()) };
    match rc {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn numbers_are_documented() {
        documented::fields!(
            "robust_list_head",
            RobustListHead {
                list,
                futex_offset,
                list_op_pending
            }
        );
    }
}
