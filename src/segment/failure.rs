//! Errors of system calls as errors of this crate.
//!
//! Each function is for one kind of call, because one `errno` means different
//! things in different calls. An `errno` that has no typed error for its call becomes
//! [`Error::Os`], with the call's name and the `errno` as source.

use std::io;

use crate::error::{Error, Unsupported};
use crate::os::mem::memory_lock_limit;
use crate::os::ofd_lock::Blocked;
use crate::os::{is_access_denied, is_not_permitted};

/// The calls that look the name of a segment up. What any other call does not find
/// is something else (`/proc`, a directory), which its error must name.
const LOOK_UPS: [&str; 3] = ["open", "unlink", "shmget"];

/// Maps the error of a call on an object that exists or should exist, found by its
/// name, key or id.
pub(super) fn os_error(call: &'static str) -> impl FnOnce(io::Error) -> Error {
    use io::ErrorKind;
    move |source| match source.kind() {
        ErrorKind::TimedOut => lock_error(call)(source),
        ErrorKind::NotFound if LOOK_UPS.contains(&call) => Error::NotFound,
        ErrorKind::AlreadyExists => Error::AlreadyExists,
        _ if is_access_denied(&source) => Error::PermissionDenied,
        _ => call_error(call)(source),
    }
}

/// Maps the error of a call that locks bytes of an object. No permission of a segment
/// can make it fail: a security module or a sandbox can.
pub(super) fn lock_error(call: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| match Blocked::of(&source) {
        Some(Blocked { inode, start, .. }) => Error::Blocked { inode, byte: start },
        None => call_error(call)(source),
    }
}

/// Maps the error of a call that removes a name or a key. Only the object's owner
/// may do that where others may write to the directory (`EPERM`).
pub(super) fn removal_error(call: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| match is_not_permitted(&source) {
        true => Error::PermissionDenied,
        false => os_error(call)(source),
    }
}

/// Maps the error of a call that no name and no permission of a segment can make
/// fail.
pub(super) fn call_error(call: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Os { call, source }
}

/// Maps the error of a call that asks for `bytes` of memory.
pub(super) fn memory_error(bytes: usize, call: &'static str) -> impl FnOnce(io::Error) -> Error {
    use io::ErrorKind;
    move |source| match source.kind() {
        ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded
        | ErrorKind::FileTooLarge
        | ErrorKind::OutOfMemory => Error::NoSpace { bytes },
        _ if is_access_denied(&source) => Error::PermissionDenied,
        // No name leads to new memory yet: a name that is missing is a directory's.
        _ => call_error(call)(source),
    }
}

/// Maps the error of `open(2)` with `O_TMPFILE`, for a file of `bytes`.
pub(super) fn unnamed_file_error(bytes: usize) -> impl FnOnce(io::Error) -> Error {
    use io::ErrorKind;
    move |source| match source.kind() {
        // EOPNOTSUPP; EISDIR before Linux 3.11, which takes the flag for O_DIRECTORY;
        // EINVAL from file systems that refuse flags that they do not know.
        ErrorKind::Unsupported | ErrorKind::IsADirectory | ErrorKind::InvalidInput => {
            Error::Unsupported(Unsupported::UnnamedFiles)
        }
        _ => memory_error(bytes, "open(O_TMPFILE)")(source),
    }
}

/// Maps the error of a call that asks for `bytes` of huge pages. `EPERM`: the user is
/// not in the group that may have them.
pub(super) fn huge_page_error(bytes: usize, call: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| match is_not_permitted(&source) {
        true => Error::NoHugePages { bytes },
        false => match memory_error(bytes, call)(source) {
            Error::NoSpace { .. } | Error::PermissionDenied => Error::NoHugePages { bytes },
            other => other,
        },
    }
}

/// Maps the error of a call that locks `bytes` into memory.
pub(super) fn memory_lock_error(
    bytes: usize,
    call: &'static str,
) -> impl FnOnce(io::Error) -> Error {
    use io::ErrorKind;
    move |source| match source.kind() {
        ErrorKind::OutOfMemory | ErrorKind::PermissionDenied | ErrorKind::WouldBlock => {
            Error::MemoryLockLimit {
                bytes,
                limit: memory_lock_limit(),
            }
        }
        _ => call_error(call)(source),
    }
}
