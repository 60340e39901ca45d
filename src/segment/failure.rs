//! What the system says, in this crate's words.

use std::io;

use crate::error::{Error, Unsupported};
use crate::os::lock_file::Blocked;
use crate::os::mman::memory_lock_limit;

/// Of a call that deals with an object that should be there.
pub(super) fn of(call: &'static str) -> impl FnOnce(io::Error) -> Error {
    use io::ErrorKind;
    move |source| match source.kind() {
        ErrorKind::TimedOut => match Blocked::of(&source) {
            Some(Blocked { inode, start, .. }) => Error::Blocked { inode, byte: start },
            None => Error::Os { call, source },
        },
        ErrorKind::NotFound => Error::NotFound,
        ErrorKind::AlreadyExists => Error::AlreadyExists,
        ErrorKind::PermissionDenied => Error::PermissionDenied,
        _ => Error::Os { call, source },
    }
}

/// Of a call that asks for `bytes` of memory.
pub(super) fn of_memory(bytes: usize, call: &'static str) -> impl FnOnce(io::Error) -> Error {
    use io::ErrorKind;
    move |source| match source.kind() {
        ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded
        | ErrorKind::FileTooLarge
        | ErrorKind::OutOfMemory => Error::NoSpace { bytes },
        // There is no name yet that could be missing: it is the directory.
        ErrorKind::NotFound => Error::Os { call, source },
        ErrorKind::Unsupported => Error::Unsupported(Unsupported::UnnamedFiles),
        _ => of(call)(source),
    }
}

/// Of a call that asks for `bytes` of huge pages.
pub(super) fn of_huge_pages(bytes: usize, call: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| match of_memory(bytes, call)(source) {
        Error::NoSpace { .. } | Error::PermissionDenied => Error::NoHugePages { bytes },
        other => other,
    }
}

/// Of a call that locks `bytes` into memory.
pub(super) fn of_memory_lock(bytes: usize, call: &'static str) -> impl FnOnce(io::Error) -> Error {
    use io::ErrorKind;
    move |source| match source.kind() {
        ErrorKind::OutOfMemory | ErrorKind::PermissionDenied | ErrorKind::WouldBlock => {
            Error::MemoryLockLimit {
                bytes,
                limit: memory_lock_limit(),
            }
        }
        _ => Error::Os { call, source },
    }
}
