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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

/// Returns the text that says how the layout in a segment differs from the expected
/// one, and what to do. It follows the name of the segment.
pub(super) fn difference<'a>(expected: &'a Layout, found: &'a Layout) -> impl fmt::Display {
    Difference { expected, found }
}

struct Difference<'a> {
    expected: &'a Layout,
    found: &'a Layout,
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { expected, found } = self;
        let name = printable(&found.type_name);
        if found.abi != expected.abi {
            return write!(
                f,
                "holds {name} of another platform ({}), and this program is for {}: \
                 use another address, or unlink it and create it on this platform",
                found.abi, expected.abi
            );
        }
        if found.type_name != expected.type_name {
            return write!(
                f,
                "holds {name} ({} bytes, aligned to {}), but this program expects {} \
                 ({} bytes, aligned to {}): let all programs use one type for it, \
                 or use another address",
                found.size,
                found.align,
                printable(&expected.type_name),
                expected.size,
                expected.align
            );
        }
        write!(f, "holds another version of {name}: ")?;
        match (found.size == expected.size, found.align == expected.align) {
            (false, true) => write!(f, "{} bytes instead of {}", found.size, expected.size),
            (true, false) => write!(
                f,
                "aligned to {} bytes instead of {}",
                found.align, expected.align
            ),
            (false, false) => write!(
                f,
                "{} bytes, aligned to {}, instead of {} bytes, aligned to {}",
                found.size, found.align, expected.size, expected.align
            ),
            (true, true) => write!(
                f,
                "its fields have other names, types or offsets, although size and alignment \
                 are equal"
            ),
        }?;
        f.write_str(
            "; build all programs with the same definition of the type, \
             or unlink the segment and create it again",
        )
    }
}

/// The properties of a platform that the layout of shared memory depends on.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ThisError)]
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
    /// The type table can't be parsed, describes types that can't exist or are nested
    /// too deeply, or is not that of the value.
    #[error("the type table can't be read")]
    UnreadableTypeTable,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    fn layout() -> Layout {
        Layout {
            type_name: "jobs::Jobs".to_owned(),
            fingerprint: crate::Fingerprint::from_bits(7),
            size: 40,
            align: 8,
            abi: Abi {
                libc: 1,
                endianness: 1,
                pointer_width: 8,
                pthread_mutex: 40,
                pthread_cond: 48,
            },
        }
    }

    /// Returns the text of a mismatch between a changed layout and the expected one.
    fn text(change: impl FnOnce(&mut Layout)) -> String {
        let mut found = layout();
        change(&mut found);
        let error = Error::LayoutMismatch {
            address: None,
            expected: Box::new(layout()),
            found: Box::new(found),
        };
        error.at(&"/jobs").to_string()
    }

    #[test]
    fn smoke() {
        let text = text(|found| found.size = 48);
        let shown = "the segment \"/jobs\" holds another version of jobs::Jobs: \
                     48 bytes instead of 40; build all programs with the same definition";
        assert!(text.starts_with(shown), "{text}");
    }

    #[test]
    fn text_says_what_differs() {
        type Change = fn(&mut Layout);
        let cases: [(Change, &str); 5] = [
            (
                |found| found.abi.pointer_width = 4,
                "jobs::Jobs of another platform (glibc, 32-bit",
            ),
            (
                |found| found.type_name = "jobs::Other".to_owned(),
                "holds jobs::Other (40 bytes, aligned to 8), but this program expects jobs::Jobs",
            ),
            (|found| found.align = 64, "aligned to 64 bytes instead of 8"),
            (
                |found| (found.size, found.align) = (64, 64),
                "64 bytes, aligned to 64, instead of 40 bytes, aligned to 8",
            ),
            (
                |found| found.fingerprint = crate::Fingerprint::from_bits(8),
                "its fields have other names, types or offsets",
            ),
        ];
        for (change, expected) in cases {
            let text = text(change);
            assert!(text.contains(expected), "{text:?} lacks {expected:?}");
        }
    }
}
