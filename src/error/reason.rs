//! Reasons that errors of segments carry: a bad name, a damaged object, what is not
//! supported.

use thiserror::Error as ThisError;

/// What is wrong with a name.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
pub enum NameError {
    /// There is no slash in it.
    #[error(
        "write \"/jobs\" for a POSIX object, \"./jobs\" for a file, \
         \"sysv:42\" for a System V key"
    )]
    NoLeadingSlash,
    /// Nothing, `.` or `..` follows the last slash.
    #[error("a name must follow the slash")]
    Empty,
    /// What follows `sysv:` is not a key.
    #[error("a System V key is a number other than 0, as in \"sysv:0x2a\" or \"sysv:42\"")]
    NotAKey,
    /// A path is not UTF-8.
    #[error("it must be UTF-8")]
    NotUtf8,
    /// There is a NUL byte.
    #[error("it must have no NUL byte")]
    Nul,
    /// It is longer than 255 bytes with the slash, or the whole path longer than
    /// 4095.
    #[error("it must be at most 255 bytes long, and a path at most 4095")]
    TooLong,
}

/// How a header contradicts itself or its object.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
pub enum CorruptHeader {
    /// The object is smaller or larger than the header says.
    #[error("it says that the object has {claimed} bytes, but it has {actual}")]
    WrongSize {
        /// In bytes, by the header.
        claimed: u64,
        /// In bytes, by the system.
        actual: u64,
    },
    /// The value would lie outside the object, inside the header, or askew.
    #[error("the value does not fit where it says the value is")]
    MisplacedValue,
    /// The name of the type is too long, or not UTF-8.
    #[error("the type's name can't be read")]
    UnreadableTypeName,
    /// It does not say what becomes of the object, in a way known here.
    #[error("the removal policy is unknown")]
    UnknownRemoval,
    /// The list of sync objects can't be read.
    #[error("the directory of locks can't be read")]
    UnreadableDirectory,
    /// A sync object would lie outside the value.
    #[error("the directory of locks leads out of the value")]
    MisplacedObject,
    /// A field that is never zero is zero.
    #[error("the pid namespace is missing")]
    NoPidNamespace,
    /// The lock in the header of a System V segment is of a kind that this crate never
    /// makes.
    #[error("the lock in the header is of an unknown kind")]
    UnknownLock,
}

/// What can't be had.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
pub enum Unsupported {
    /// Huge pages for a file with a name.
    #[error(
        "huge pages can be had for anonymous and System V segments only, \
         not for POSIX objects and files"
    )]
    HugePages,
    /// Files without a name (`O_TMPFILE`), on the file system of a path.
    #[error("this file system has no unnamed files (O_TMPFILE), so none can be published whole")]
    UnnamedFiles,
    /// Bringing in all pages at once (`MADV_POPULATE_WRITE`).
    #[error("pages can be brought in beforehand on Linux 5.14 and later")]
    Prefault,
    /// Creating a System V segment by its id.
    #[error("a System V segment is created by its key, or without one; its id is given to it")]
    CreationById,
}
