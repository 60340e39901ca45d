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

/// The first field in which the type of a segment differs from the expected one.
///
/// ```
/// use shm_sync::{Error, Segment, ShmMutex};
///
/// # fn main() -> Result<(), Error> {
/// # let name = format!("/shm-sync-doc-mismatch-{}", std::process::id());
/// # let name = name.as_str();
/// let segment = Segment::create(name, (0_u8, ShmMutex::new(0_u32)))?;
/// let Err(error) = Segment::<(u8, ShmMutex<u64>)>::open(name) else {
///     panic!("the types differ");
/// };
/// let Error::LayoutMismatch { field: Some(field), .. } = &error else {
///     panic!("it is described");
/// };
/// assert_eq!(field.path, ".1.data");
/// let types = [&field.expected, &field.found].map(|side| side.clone().unwrap().type_name);
/// assert_eq!(types, ["u64", "u32"]);
/// assert!(error.to_string().contains("field `.1.data`: expected u64 at offset"));
/// # shm_sync::unlink(name)
/// # }
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FieldMismatch {
    /// The path of the field in the expected type, such as `.jobs[].state`, or in the
    /// type of the segment if only that has the field. It is empty for the value as a
    /// whole. A variant of an enum is `::Busy`.
    ///
    /// It may contain any character, as may the names and types below. `Display`
    /// escapes those that control a terminal.
    pub path: String,
    /// The field as this program has it. `None`: it has no such field.
    pub expected: Option<FieldLayout>,
    /// The field as the segment has it. `None`: it has no such field.
    pub found: Option<FieldLayout>,
}

/// A field as a program or a segment has it: a part of a [`FieldMismatch`].
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FieldLayout {
    /// The name.
    pub name: String,
    /// The type: `u64`, `[u8; 4]`, `ShmMutex`, or `struct`, `enum(u8)` or `tuple`; of a
    /// variant, `discriminant 7`.
    pub type_name: String,
    /// The offset in bytes from the start of the value; in an array, for the first
    /// element.
    pub offset: u64,
    /// The size in bytes, or 0 if it depends on the length of the value.
    pub size: u64,
    /// The alignment in bytes.
    pub align: u64,
}

impl fmt::Display for FieldMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "the value: ")?,
            path => write!(f, "field `{}`: ", printable(path))?,
        }
        let (one, other) = match (&self.expected, &self.found) {
            (Some(expected), Some(found)) => (expected, found),
            (Some(expected), None) => {
                return write!(f, "expected {expected}, found no such field");
            }
            (None, Some(found)) => return write!(f, "expected no such field, found {found}"),
            (None, None) => return write!(f, "it differs"),
        };
        let are_alike = one.type_name == other.type_name && one.offset == other.offset;
        if one.name != other.name {
            let name = printable(&other.name);
            return write!(f, "expected {one}, found `{name}`, {other}");
        }
        if !are_alike {
            return write!(f, "expected {one}, found {other}");
        }
        if (one.size, one.align) != (other.size, other.align) {
            return write!(
                f,
                "expected {} of {} bytes, aligned to {}, found {} bytes, aligned to {}",
                printable(&one.type_name),
                one.size,
                one.align,
                other.size,
                other.align
            );
        }
        write!(f, "expected another {}", printable(&one.type_name))
    }
}

impl fmt::Display for FieldLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = printable(&self.type_name);
        write!(f, "{of} at offset {}", self.offset)
    }
}

/// Returns the text that says how the layout in a segment differs from the expected
/// one, and what to do. It follows the name of the segment.
pub(super) fn difference<'a>(
    expected: &'a Layout,
    found: &'a Layout,
    field: Option<&'a FieldMismatch>,
) -> impl fmt::Display {
    Difference {
        expected,
        found,
        field,
    }
}

struct Difference<'a> {
    expected: &'a Layout,
    found: &'a Layout,
    field: Option<&'a FieldMismatch>,
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            expected,
            found,
            field,
        } = self;
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
                 ({} bytes, aligned to {}){}: let all programs use one type for it, \
                 or use another address",
                found.size,
                found.align,
                printable(&expected.type_name),
                expected.size,
                expected.align,
                field.map_or_else(String::new, |field| format!("; {field}")),
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
            (true, true) if field.is_some() => Ok(()),
            (true, true) => write!(
                f,
                "its fields have other names, types or offsets, although size and alignment \
                 are equal"
            ),
        }?;
        if let Some(field) = field {
            let is_all = found.size == expected.size && found.align == expected.align;
            write!(f, "{}{field}", if is_all { "" } else { "; " })?;
        }
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
    /// The C library: 1 for glibc, 2 for musl.
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
            2 => "musl",
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
            field: None,
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
