//! Wrappers of system calls, of libc functions, and of files in `/proc`.
//!
//! Only this module names `libc` or `nix`. A wrapper names the call that it makes,
//! returns a typed result, and repeats a call that a signal interrupted. The policy of
//! locks is in [`robust`](crate::robust), and that of segments in
//! [`segment`](crate::segment).

pub(crate) mod clock;
pub(crate) mod descriptor;
pub(crate) mod fork;
pub(crate) mod futex;
pub(crate) mod mem;
pub(crate) mod ofd_lock;
mod own_page;
mod pause;
pub(crate) mod private_owner;
pub(crate) mod proc;
pub(crate) mod process;
pub(crate) mod pthread;
pub(crate) mod regular_file;
pub(crate) mod robust_list;
mod timer_slack;

use std::io;

/// Converts the error of a call that `nix` made.
fn io_error(errno: nix::errno::Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}

/// Returns whether the error is `EACCES`: the permission bits of an object or of a
/// directory forbid the call. `ErrorKind::PermissionDenied` covers `EPERM` as well.
pub(crate) fn is_access_denied(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EACCES)
}

/// Returns whether the error is `EPERM`: the caller is not the owner, lacks a
/// privilege, or a sandbox or a seal forbids the call.
pub(crate) fn is_not_permitted(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

/// Calls `f` until no signal interrupts it (`EINTR`).
fn retry_on_eintr<T>(mut f: impl FnMut() -> nix::Result<T>) -> io::Result<T> {
    loop {
        match f() {
            Err(nix::errno::Errno::EINTR) => {}
            other => return other.map_err(io_error),
        }
    }
}
