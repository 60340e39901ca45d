//! Requests that no segment could satisfy: an invalid name, an unsupported feature.

use thiserror::Error as ThisError;

/// The fault of an invalid name.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ThisError)]
pub enum NameError {
    /// The name has no slash.
    #[error(
        "write \"/jobs\" for a POSIX object, \"./jobs\" for a file, \
         \"sysv:42\" for a System V key"
    )]
    NoLeadingSlash,
    /// Nothing, `.` or `..` follows the last slash.
    #[error("a name must follow the slash")]
    Empty,
    /// The text after `sysv:` is not a key.
    #[error("a System V key is a number other than 0, as in \"sysv:0x2a\" or \"sysv:42\"")]
    NotAKey,
    /// The name contains a NUL byte.
    #[error("it must have no NUL byte")]
    Nul,
    /// The name with its slash is longer than 255 bytes, or the whole path longer than
    /// 4095.
    #[error("it must be at most 255 bytes long, and a path at most 4095")]
    TooLong,
    /// A segment that is being created has such a name, on a file system without
    /// unnamed files: `.shm-sync.new.` and sixteen hexadecimal digits.
    #[error("names that begin with \".shm-sync.new.\" are for segments that are being created")]
    Temporary,
}

/// A feature that this kind of memory or this system does not support.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ThisError)]
pub enum Unsupported {
    /// Huge pages for a POSIX object or a file.
    #[error(
        "huge pages are for anonymous and System V segments only, \
         not for POSIX objects and files"
    )]
    HugePages,
    /// The file system of the path has no unnamed files (`O_TMPFILE`), and no other way
    /// to publish a complete file: `renameat2(2)` with `RENAME_NOREPLACE`, or hard
    /// links that lead to the same memory.
    #[error(
        "this file system has no unnamed files (O_TMPFILE), no RENAME_NOREPLACE and no hard \
         links, so no segment can be published whole: use another file system"
    )]
    UnnamedFiles,
    /// Record locks that other processes see, on the file system of the path. Without
    /// them no process knows whether a segment is in use.
    #[error(
        "this file system does not show the record locks of one process to the others: \
         use another file system, or mount it with locks"
    )]
    RecordLocks,
    /// Populating all pages at once (`MADV_POPULATE_WRITE`).
    #[error("populating pages in advance needs Linux 5.14 or later")]
    Prefault,
    /// Creating a System V segment by its id.
    #[error("a System V segment is created by its key, or without one; its id is given to it")]
    CreationById,
}
