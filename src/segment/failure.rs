//! Maps the errors of system calls to [`Error`].
//!
//! There is one function for each kind of call, because one `errno` means different
//! things in different calls. An `errno` that has no typed error for its call becomes
//! [`Error::Os`], with the name of the call, and with the `errno` as its source.

use std::io::{self, ErrorKind};

use crate::error::Error;
use crate::os::mem::memory_lock_limit;
use crate::os::ofd_lock::Blocked;
use crate::os::{is_access_denied, is_not_permitted};

/// The calls that look up the name of a segment. If any other call does not find
/// something, that is another object (`/proc`, a directory), and [`Error::Os`] names
/// the call.
const LOOK_UPS: [&str; 3] = ["open", "unlink", "shmget"];

/// Maps the error of a call on an existing object, which is found by its name, its key,
/// its id or a descriptor.
pub(super) fn os_error(call: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| match source.kind() {
        ErrorKind::TimedOut => lock_error(call)(source),
        ErrorKind::NotFound if LOOK_UPS.contains(&call) => Error::NotFound { address: None },
        ErrorKind::AlreadyExists => Error::AlreadyExists { address: None },
        _ if is_access_denied(&source) => Error::PermissionDenied { address: None },
        _ => call_error(call)(source),
    }
}

/// Maps the error of a call that locks bytes of an object. The permissions of a segment
/// cannot make it fail, but a security module or a sandbox can.
pub(super) fn lock_error(call: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| match Blocked::of(&source) {
        Some(Blocked { inode, start, .. }) => Error::Blocked {
            address: None,
            inode,
            byte: start,
        },
        None => call_error(call)(source),
    }
}

/// Maps the error of a call that removes a name or a key. In a directory with the
/// sticky bit only the owner of the object may do that (`EPERM`).
pub(super) fn removal_error(call: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| {
        if is_not_permitted(&source) {
            Error::PermissionDenied { address: None }
        } else {
            os_error(call)(source)
        }
    }
}

/// Maps the error of a call that fails neither because of a name nor because of the
/// permissions of a segment.
pub(super) fn call_error(call: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Os {
        address: None,
        call,
        source,
    }
}

/// Maps the error of a call that requests `bytes` of memory.
pub(super) fn memory_error(bytes: usize, call: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| match source.kind() {
        ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded
        | ErrorKind::FileTooLarge
        | ErrorKind::OutOfMemory => Error::NoSpace {
            address: None,
            bytes,
        },
        _ if is_access_denied(&source) => Error::PermissionDenied { address: None },
        // New memory has no name yet, so a missing name is that of a directory.
        _ => call_error(call)(source),
    }
}

/// Maps the error of a call that gives a new object its name.
pub(super) fn publication_error(call: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| match source.kind() {
        // A directory of the path is missing, and not the name.
        ErrorKind::NotFound => call_error(call)(source),
        _ => os_error(call)(source),
    }
}

/// Maps the error of a call that requests `bytes` of huge pages. `EPERM` means that the
/// user is not in the group that may have them.
pub(super) fn huge_page_error(bytes: usize, call: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| {
        let no_huge_pages = Error::NoHugePages {
            address: None,
            bytes,
        };
        if is_not_permitted(&source) {
            return no_huge_pages;
        }
        match memory_error(bytes, call)(source) {
            Error::NoSpace { .. } | Error::PermissionDenied { .. } => no_huge_pages,
            other => other,
        }
    }
}

/// Maps the error of a call that locks `bytes` into memory.
pub(super) fn memory_lock_error(
    bytes: usize,
    call: &'static str,
) -> impl FnOnce(io::Error) -> Error {
    move |source| match source.kind() {
        ErrorKind::OutOfMemory | ErrorKind::PermissionDenied | ErrorKind::WouldBlock => {
            Error::MemoryLockLimit {
                address: None,
                bytes,
                limit: memory_lock_limit(),
            }
        }
        _ => call_error(call)(source),
    }
}
