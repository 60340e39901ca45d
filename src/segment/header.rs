//! The first bytes of every segment: what it is, and what it holds.
//!
//! All numbers are little-endian, so that a program of any platform can read
//! who made the segment and say what does not fit.
//!
//! | bytes | content |
//! |---|---|
//! | 0–7 | magic, `shmsync\0` |
//! | 8–11 | format version |
//! | 12 | libc (1: glibc) |
//! | 13 | endianness (1: little, 2: big) |
//! | 14 | pointer width in bytes |
//! | 15 | size of a `pthread_mutex_t` in bytes |
//! | 16 | size of a `pthread_cond_t` in bytes |
//! | 17–19 | zero |
//! | 20–23 | pid namespace: inode number of the creator's `/proc/self/ns/pid` |
//! | 24–31 | length of the object in bytes |
//! | 32–39 | offset of the value in bytes |
//! | 40–47 | size of the value in bytes |
//! | 48–55 | alignment of the value in bytes |
//! | 56–63 | fingerprint of the type |
//! | 64–67 | process id of the creator, for people |
//! | 68–71 | length of the type's name in bytes |
//! | 72–255 | name of the type, UTF-8, for people |
//!
//! [`Header::parse`] is total: any bytes give a header whose claims hold for
//! the object, or a typed error.

use crate::error::{Abi, Damage, Error, Layout};
use crate::fingerprint::Fingerprint;
use crate::shm_safe::ShmSafe;

use super::Extent;

/// The length of a header in bytes.
pub(super) const LEN: usize = 256;

const MAGIC: [u8; 8] = *b"shmsync\0";

/// Goes up with every change of this format or of the layout of a primitive
/// that its fingerprint does not show.
const FORMAT: u32 = 1;

const TYPE_NAME_AT: usize = 72;
const TYPE_NAME_MAX: usize = LEN - TYPE_NAME_AT;

/// What this program is built for.
const OUR_ABI: Abi = Abi {
    libc: 1, // os::pthread compiles for glibc only
    endianness: if cfg!(target_endian = "little") { 1 } else { 2 },
    pointer_width: size_of::<usize>() as u8,
    pthread_mutex: crate::os::pthread::MUTEX_SIZE,
    pthread_cond: crate::os::pthread::COND_SIZE,
};

/// The content of a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) pid_namespace: u32,
    creator: u32,
    total_len: u64,
    value_offset: u64,
    pub(super) layout: Layout,
}

impl Header {
    /// The header of a segment that holds a `T`, made by this process.
    pub(super) fn of<T: ShmSafe>(pid_namespace: u32) -> Self {
        let extent = Extent::of::<T>();
        Self {
            pid_namespace,
            creator: std::process::id(),
            total_len: extent.total_len.get() as u64,
            value_offset: extent.value_offset as u64,
            layout: layout_of::<T>(),
        }
    }

    /// Whether this is the header of a segment that holds a `T` as this
    /// program knows it.
    pub(super) fn check_layout<T: ShmSafe>(&self) -> Result<(), Error> {
        let (expected, extent) = (layout_of::<T>(), Extent::of::<T>());
        let same = self.layout.abi == expected.abi
            && self.layout.fingerprint == expected.fingerprint
            && self.layout.size == expected.size
            && self.layout.align == expected.align
            && self.value_offset == extent.value_offset as u64
            && self.total_len == extent.total_len.get() as u64;
        if same {
            return Ok(());
        }
        Err(Error::LayoutMismatch {
            expected: Box::new(expected),
            found: Box::new(self.layout.clone()),
        })
    }

    pub(super) fn to_bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let abi = self.layout.abi;
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..17].copy_from_slice(&[
            abi.libc,
            abi.endianness,
            abi.pointer_width,
            abi.pthread_mutex,
            abi.pthread_cond,
        ]);
        bytes[20..24].copy_from_slice(&self.pid_namespace.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.total_len.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.value_offset.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.layout.size.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.layout.align.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.layout.fingerprint.to_bits().to_le_bytes());
        bytes[64..68].copy_from_slice(&self.creator.to_le_bytes());
        let name = truncated(&self.layout.type_name, TYPE_NAME_MAX).as_bytes();
        bytes[68..72].copy_from_slice(&(name.len() as u32).to_le_bytes());
        bytes[TYPE_NAME_AT..TYPE_NAME_AT + name.len()].copy_from_slice(name);
        bytes
    }

    /// Reads the header of an object that is `object_len` bytes long.
    pub(super) fn parse(bytes: &[u8; LEN], object_len: u64) -> Result<Self, Error> {
        if bytes[0..8] != MAGIC {
            return Err(Error::NotASegment);
        }
        let format = u32_at(bytes, 8);
        if format != FORMAT {
            return Err(Error::UnsupportedFormat {
                found: format,
                supported: FORMAT,
            });
        }
        let header = Self {
            pid_namespace: u32_at(bytes, 20),
            total_len: u64_at(bytes, 24),
            value_offset: u64_at(bytes, 32),
            creator: u32_at(bytes, 64),
            layout: Layout {
                size: u64_at(bytes, 40),
                align: u64_at(bytes, 48),
                fingerprint: Fingerprint::from_bits(u64_at(bytes, 56)),
                type_name: type_name(bytes).ok_or(Error::Corrupt(Damage::UnreadableTypeName))?,
                abi: Abi {
                    libc: bytes[12],
                    endianness: bytes[13],
                    pointer_width: bytes[14],
                    pthread_mutex: bytes[15],
                    pthread_cond: bytes[16],
                },
            },
        };
        header.check_against(object_len).map_err(Error::Corrupt)?;
        Ok(header)
    }

    fn check_against(&self, object_len: u64) -> Result<(), Damage> {
        if self.total_len != object_len {
            return Err(Damage::WrongSize {
                claimed: self.total_len,
                actual: object_len,
            });
        }
        let end = self.value_offset.checked_add(self.layout.size);
        let inside = self.value_offset >= LEN as u64 && end.is_some_and(|end| end <= object_len);
        let aligned = self.layout.align.is_power_of_two()
            && self.value_offset.is_multiple_of(self.layout.align);
        if !(inside && aligned) {
            return Err(Damage::MisplacedValue);
        }
        if self.pid_namespace == 0 {
            return Err(Damage::NoPidNamespace);
        }
        Ok(())
    }
}

fn layout_of<T: ShmSafe>() -> Layout {
    Layout {
        type_name: std::any::type_name::<T>().to_owned(),
        fingerprint: T::FINGERPRINT,
        size: size_of::<T>() as u64,
        align: align_of::<T>() as u64,
        abi: OUR_ABI,
    }
}

fn u32_at(bytes: &[u8; LEN], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8; LEN], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn type_name(bytes: &[u8; LEN]) -> Option<String> {
    let len = usize::try_from(u32_at(bytes, 68)).ok()?;
    let name = bytes[TYPE_NAME_AT..].get(..len)?;
    String::from_utf8(name.to_vec()).ok()
}

/// The longest start of `text` that has at most `max` bytes.
fn truncated(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Header {
        Header::of::<(u64, [u32; 5])>(4_026_531_836)
    }

    #[test]
    fn smoke() {
        let header = sample();
        let read = Header::parse(&header.to_bytes(), header.total_len).unwrap();
        assert_eq!(read, header);
        read.check_layout::<(u64, [u32; 5])>().unwrap();
    }

    #[test]
    fn another_type_is_a_mismatch_that_names_both() {
        let Err(error) = sample().check_layout::<(u64, [u32; 6])>() else {
            panic!("five is not six");
        };
        let text = error.to_string();
        assert!(
            text.contains("[u32; 5]") && text.contains("[u32; 6]"),
            "{text}"
        );
    }

    #[test]
    fn another_platform_is_a_mismatch() {
        let mut header = sample();
        header.layout.abi.pthread_mutex = 48;
        let found = Header::parse(&header.to_bytes(), header.total_len).unwrap();
        assert!(matches!(
            found.check_layout::<(u64, [u32; 5])>(),
            Err(Error::LayoutMismatch { .. })
        ));
    }

    #[test]
    fn a_long_type_name_is_cut_between_characters() {
        let mut header = sample();
        header.layout.type_name = "ż".repeat(200);
        let read = Header::parse(&header.to_bytes(), header.total_len).unwrap();
        assert_eq!(read.layout.type_name, "ż".repeat(TYPE_NAME_MAX / 2));
    }

    #[test]
    fn each_damage_is_told() {
        type Change = fn(&mut Header);
        let cases: [(Change, Damage); 5] = [
            (|h| h.value_offset = 8, Damage::MisplacedValue),
            (|h| h.value_offset = u64::MAX, Damage::MisplacedValue),
            (|h| h.layout.size = u64::MAX, Damage::MisplacedValue),
            (|h| h.layout.align = 3, Damage::MisplacedValue),
            (|h| h.pid_namespace = 0, Damage::NoPidNamespace),
        ];
        for (change, expected) in cases {
            let mut header = sample();
            change(&mut header);
            match Header::parse(&header.to_bytes(), header.total_len) {
                Err(Error::Corrupt(damage)) => assert_eq!(damage, expected),
                other => panic!("{other:?} is not {expected:?}"),
            }
        }
    }

    /// Bytes that are a header but for a few changes, and plain noise.
    fn bytes() -> impl Strategy<Value = [u8; LEN]> {
        let noise = proptest::collection::vec(any::<u8>(), LEN);
        let damaged = proptest::collection::vec((0..LEN, any::<u8>()), 0..6).prop_map(|changes| {
            let mut bytes = sample().to_bytes();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            bytes.to_vec()
        });
        prop_oneof![1 => noise, 9 => damaged].prop_map(|bytes| bytes.try_into().unwrap())
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_header_that_keeps_inside_or_an_error(
            bytes in bytes(),
            len in prop_oneof![Just(sample().total_len), any::<u64>()],
        ) {
            if let Ok(header) = Header::parse(&bytes, len) {
                let end = header.value_offset.checked_add(header.layout.size);
                prop_assert!(end.is_some_and(|end| end <= len));
                prop_assert!(header.value_offset >= LEN as u64);
                // Whatever passes the layout check is exactly our own extent.
                if header.check_layout::<(u64, [u32; 5])>().is_ok() {
                    prop_assert_eq!(len, sample().total_len);
                    prop_assert_eq!(header.value_offset, sample().value_offset);
                }
            }
        }

        #[test]
        fn headers_survive_writing_and_reading(
            namespace in 1..u32::MAX,
            creator in any::<u32>(),
            fingerprint in any::<u64>(),
            name in ".{0,60}",
        ) {
            let mut header = sample();
            header.pid_namespace = namespace;
            header.creator = creator;
            header.layout.fingerprint = Fingerprint::from_bits(fingerprint);
            header.layout.type_name = truncated(&name, TYPE_NAME_MAX).to_owned();
            let read = Header::parse(&header.to_bytes(), header.total_len).unwrap();
            prop_assert_eq!(read, header);
        }
    }
}
