//! The faults of a segment's header: a layout other than the expected one, or invalid
//! contents.

use std::fmt;

use thiserror::Error as ThisError;

use crate::printable::printable;

/// The type of a segment's value and its memory layout.
///
/// Two programs agree on a segment if fingerprint, size, alignment and platform are
/// equal. The type name is for people.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Layout {
    /// The path of the type, which may differ between programs that agree. It may
    /// contain any character. `Display` escapes those that control a terminal.
    pub type_name: String,
    /// The structural hash of the type.
    pub fingerprint: crate::Fingerprint,
    /// The size of the value in bytes.
    pub size: u64,
    /// The alignment of the value in bytes.
    pub align: u64,
    /// The platform.
    pub abi: Abi,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({} bytes, aligned to {}, fingerprint {}, {})",
            printable(&self.type_name),
            self.size,
            self.align,
            self.fingerprint,
            self.abi
        )
    }
}

/// The properties of a platform that the layout of shared memory depends on.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Abi {
    /// The C library: 1 for glibc.
    pub libc: u8,
    /// The byte order: 1 for little-endian, 2 for big-endian.
    pub endianness: u8,
    /// The size of a pointer in bytes.
    pub pointer_width: u8,
    /// The size of a `pthread_mutex_t` in bytes.
    pub pthread_mutex: u8,
    /// The size of a `pthread_cond_t` in bytes.
    pub pthread_cond: u8,
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let libc = match self.libc {
            1 => "glibc",
            _ => "an unknown libc",
        };
        let endianness = match self.endianness {
            1 => "little-endian",
            2 => "big-endian",
            _ => "unknown-endian",
        };
        write!(
            f,
            "{libc}, {}-bit {endianness}, pthread_mutex_t of {} and pthread_cond_t of {} bytes",
            u32::from(self.pointer_width) * 8,
            self.pthread_mutex,
            self.pthread_cond
        )
    }
}

/// The fault of an invalid header.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
pub enum CorruptHeader {
    /// The object is smaller or larger than its header says.
    #[error("it says that the object has {claimed} bytes, but it has {actual}")]
    WrongSize {
        /// The size that the header says, in bytes.
        claimed: u64,
        /// The size of the object, in bytes.
        actual: u64,
    },
    /// The value would lie outside the object, overlap the header, or be misaligned.
    #[error("the value does not fit where it says the value is")]
    MisplacedValue,
    /// The name of the type is too long, or not UTF-8.
    #[error("the type's name can't be read")]
    UnreadableTypeName,
    /// The removal policy has an unknown value.
    #[error("the removal policy is unknown")]
    UnknownRemoval,
    /// The lock table can't be parsed.
    #[error("the lock table can't be read")]
    UnreadableLockTable,
    /// A sync object of the lock table would lie outside the value.
    #[error("the lock table leads out of the value")]
    MisplacedObject,
    /// The pid namespace is zero, which is never valid.
    #[error("the pid namespace is missing")]
    NoPidNamespace,
    /// The lock in the header of a System V segment is of a kind that this crate never
    /// makes.
    #[error("the lock in the header is of an unknown kind")]
    UnknownLock,
}
