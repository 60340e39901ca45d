//! The first bytes of every segment: what it is, and what it holds.
//!
//! All numbers but the live ones are little-endian, so that a program of any
//! platform can read who made the segment and say what does not fit.
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
//! | 17 | what becomes of it when nobody is attached (0: it stays, 1: it is removed) |
//! | 18–19 | zero |
//! | 20–23 | pid namespace: inode number of `/proc/self/ns/pid` of those who lock here |
//! | 24–31 | length of the object in bytes |
//! | 32–39 | offset of the value in bytes |
//! | 40–47 | size of the value in bytes |
//! | 48–55 | alignment of the value in bytes |
//! | 56–71 | fingerprint of the type |
//! | 72–79 | number of elements, if that was chosen at creation |
//! | 80–87 | when it was created, in seconds since 1970, for people |
//! | 88–91 | length of the directory in bytes; it follows the header |
//! | 92–95 | process id of the creator, for people |
//! | 96–99 | length of the type's name in bytes |
//! | 100–103 | zero |
//! | 104–111 | device of the file, 0 if it is none or unknown: tells a snapshot from the original |
//! | 112–119 | inode number of the file, 0 if it is none: tells a copy from the original |
//! | 120–135 | id of the boot in which its locks came to life; all ones: in memory, which no boot outlives |
//! | 136–143 | when the file was made, in nanoseconds since 1970, 0 if that is unknown |
//! | 144–191 | zero |
//! | 192–255 | live: [`SysvState`](crate::segment::backing::sysv::state::SysvState), System V only, zero elsewhere |
//! | 256–447 | name of the type, UTF-8, for people |
//!
//! [`Header::parse`] is total: any bytes give a header whose claims hold for
//! the object, or a typed error.

use std::time::SystemTime;

use crate::error::{Abi, CorruptHeader, Error, Layout};
use crate::shm_safe::Fingerprint;

use crate::segment::content::{SegmentContent, assert_mappable};
use crate::segment::format::epoch::{Epoch, Validity};
use crate::segment::policy::Removal;

/// The length of a header in bytes.
pub(crate) const LEN: usize = 448;

pub(crate) const MAGIC: [u8; 8] = *b"shmsync\0";

/// Goes up with every change of this format or of the layout of a primitive
/// that its fingerprint does not show.
const FORMAT: u32 = 3;

/// Offsets of what changes after creation.
pub(in crate::segment) const PID_NAMESPACE_AT: usize = 20;
pub(in crate::segment) const ORIGIN_AT: usize = 104;
pub(in crate::segment) const BIRTH_AT: usize = 192;
pub(in crate::segment) const BIRTH_END: usize = 256;

const TYPE_NAME_AT: usize = BIRTH_END;
const TYPE_NAME_MAX: usize = LEN - TYPE_NAME_AT;

/// A value begins on a cache line of its own, whatever its alignment.
const CACHE_LINE: u64 = 64;

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
pub(crate) struct Header {
    pub(crate) removal: Removal,
    pub(crate) pid_namespace: u32,
    pub(crate) creator: u32,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) total_len: u64,
    pub(crate) value_offset: u64,
    /// Elements, if the number was chosen at creation.
    pub(crate) len: u64,
    pub(crate) directory_len: u32,
    pub(crate) origin: Epoch,
    pub(crate) layout: Layout,
}

impl Header {
    /// The header of a segment that holds a `T` with `len` elements, made by this
    /// process, in an object whose length is a multiple of `granularity`.
    pub(in crate::segment) fn of<T: SegmentContent + ?Sized>(
        len: u64,
        directory_len: usize,
        granularity: u64,
        pid_namespace: u32,
        origin: Epoch,
        removal: Removal,
    ) -> Option<Self> {
        let size = T::size(len)?;
        let align = (T::ALIGN as u64).max(CACHE_LINE);
        let value_offset = (LEN as u64 + directory_len as u64).next_multiple_of(align);
        let end = value_offset.checked_add(size)?;
        Some(Self {
            removal,
            pid_namespace,
            creator: std::process::id(),
            created: SystemTime::UNIX_EPOCH
                .elapsed()
                .map_or(0, |since| since.as_secs()),
            total_len: end.checked_next_multiple_of(granularity)?,
            value_offset,
            len,
            directory_len: u32::try_from(directory_len).ok()?,
            origin,
            layout: layout_of::<T>(size),
        })
    }

    /// Returns where its locks mean something, as it says.
    pub(in crate::segment) fn validity(&self) -> Validity {
        Validity {
            origin: self.origin,
            pid_namespace: self.pid_namespace,
        }
    }

    /// Whether this is the header of a segment that holds a `T` as this
    /// program knows it. Returns the number of elements.
    pub(in crate::segment) fn check_layout<T: SegmentContent + ?Sized>(
        &self,
    ) -> Result<usize, Error> {
        const { assert_mappable::<T>() };
        let mismatch = |size| Error::LayoutMismatch {
            expected: Box::new(layout_of::<T>(size)),
            found: Box::new(self.layout.clone()),
        };
        let size = T::size(self.len).or_else(|| T::size(0)).unwrap_or_default();
        let expected = layout_of::<T>(size);
        let same = self.layout.abi == expected.abi
            && self.layout.fingerprint == expected.fingerprint
            && self.layout.size == expected.size
            && self.layout.align == expected.align
            && T::size(self.len).is_some();
        if !same {
            return Err(mismatch(size));
        }
        usize::try_from(self.len).map_err(|_| mismatch(size))
    }

    pub(crate) fn to_bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
        let abi = self.layout.abi;
        put(0, &MAGIC);
        put(8, &FORMAT.to_le_bytes());
        put(12, &[abi.libc, abi.endianness, abi.pointer_width]);
        put(15, &[abi.pthread_mutex, abi.pthread_cond]);
        put(17, &[self.removal.to_code()]);
        put(PID_NAMESPACE_AT, &self.pid_namespace.to_le_bytes());
        put(24, &self.total_len.to_le_bytes());
        put(32, &self.value_offset.to_le_bytes());
        put(40, &self.layout.size.to_le_bytes());
        put(48, &self.layout.align.to_le_bytes());
        put(56, &self.layout.fingerprint.to_bits().to_le_bytes());
        put(92, &self.creator.to_le_bytes());
        let name = truncated(&self.layout.type_name, TYPE_NAME_MAX).as_bytes();
        put(96, &(name.len() as u32).to_le_bytes());
        put(72, &self.len.to_le_bytes());
        put(80, &self.created.to_le_bytes());
        put(88, &self.directory_len.to_le_bytes());
        put(ORIGIN_AT, &self.origin.to_bytes());
        put(TYPE_NAME_AT, name);
        bytes
    }

    /// Reads the header of an object that is `object_len` bytes long.
    pub(crate) fn parse(bytes: &[u8; LEN], object_len: u64) -> Result<Self, Error> {
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
            removal: Removal::from_code(bytes[17])
                .ok_or(Error::Corrupt(CorruptHeader::UnknownRemoval))?,
            pid_namespace: u32_at(bytes, PID_NAMESPACE_AT),
            total_len: u64_at(bytes, 24),
            value_offset: u64_at(bytes, 32),
            creator: u32_at(bytes, 92),
            len: u64_at(bytes, 72),
            created: u64_at(bytes, 80),
            directory_len: u32_at(bytes, 88),
            origin: Epoch::from_bytes(&std::array::from_fn(|i| bytes[ORIGIN_AT + i])),
            layout: Layout {
                size: u64_at(bytes, 40),
                align: u64_at(bytes, 48),
                fingerprint: Fingerprint::from_bits(u128_at(bytes, 56)),
                type_name: type_name(bytes)
                    .ok_or(Error::Corrupt(CorruptHeader::UnreadableTypeName))?,
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

    fn check_against(&self, object_len: u64) -> Result<(), CorruptHeader> {
        if self.total_len != object_len {
            return Err(CorruptHeader::WrongSize {
                claimed: self.total_len,
                actual: object_len,
            });
        }
        let after_directory = LEN as u64 + u64::from(self.directory_len);
        let end = self.value_offset.checked_add(self.layout.size);
        let inside = self.value_offset >= after_directory
            && end.is_some_and(|end| end <= object_len)
            && object_len <= isize::MAX as u64;
        let aligned = self.layout.align.is_power_of_two()
            && self.value_offset.is_multiple_of(self.layout.align);
        if !(inside && aligned) {
            return Err(CorruptHeader::MisplacedValue);
        }
        if self.pid_namespace == 0 {
            return Err(CorruptHeader::NoPidNamespace);
        }
        Ok(())
    }

    /// Whether its locks are those of this platform, so that this program can
    /// read them.
    pub(crate) fn is_of_our_abi(&self) -> bool {
        self.layout.abi == OUR_ABI
    }

    /// [`Error::LayoutMismatch`] unless its locks are those of this platform.
    pub(crate) fn check_abi(&self) -> Result<(), Error> {
        if self.is_of_our_abi() {
            return Ok(());
        }
        let mut expected = self.layout.clone();
        expected.abi = OUR_ABI;
        Err(Error::LayoutMismatch {
            expected: Box::new(expected),
            found: Box::new(self.layout.clone()),
        })
    }
}

fn layout_of<T: SegmentContent + ?Sized>(size: u64) -> Layout {
    Layout {
        type_name: std::any::type_name::<T>().to_owned(),
        fingerprint: T::FINGERPRINT,
        size,
        align: T::ALIGN as u64,
        abi: OUR_ABI,
    }
}

fn u32_at(bytes: &[u8; LEN], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8; LEN], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u128_at(bytes: &[u8; LEN], at: usize) -> u128 {
    u128::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn type_name(bytes: &[u8; LEN]) -> Option<String> {
    let len = usize::try_from(u32_at(bytes, 96)).ok()?;
    let name = bytes[TYPE_NAME_AT..].get(..len)?;
    String::from_utf8(name.to_vec()).ok()
}

/// The longest start of `text` that has at most `max` bytes.
pub(in crate::segment) fn truncated(text: &str, max: usize) -> &str {
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
        sample_of::<(u64, [u32; 5])>(0)
    }

    fn sample_of<T: SegmentContent + ?Sized>(len: u64) -> Header {
        let origin = Epoch::NAMELESS;
        Header::of::<T>(len, 10, 1, 4_026_531_836, origin, Removal::UntilLastDetach).unwrap()
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
    fn a_mismatch_shows_no_escape_sequence() {
        let mut header = sample();
        header.layout.type_name = "a\x1b[2J\u{9b}2J\u{202e}\n".to_owned();
        let error = header.check_layout::<u8>().unwrap_err();
        let shown = "the segment holds a\\u{1b}[2J\\u{9b}2J\\u{202e}\\n (";
        assert!(error.to_string().starts_with(shown), "{error}");
        assert!(!format!("{error:?}").contains(['\x1b', '\u{9b}', '\u{202e}', '\n']));
    }

    #[test]
    fn lengths_are_learned_and_checked() {
        let header = sample_of::<[u64]>(9);
        assert_eq!(header.check_layout::<[u64]>().unwrap(), 9);
        assert!(header.check_layout::<[u64; 9]>().is_err());
        assert!(header.check_layout::<[u32]>().is_err());
        let mut wrong = header.clone();
        wrong.len = 8;
        assert!(wrong.check_layout::<[u64]>().is_err(), "the size says 9");
        wrong.len = u64::MAX;
        assert!(
            wrong.check_layout::<[u64]>().is_err(),
            "no memory is so large"
        );
    }

    #[test]
    fn objects_grow_to_whole_pages_where_they_must() {
        let origin = sample().origin;
        let header = |granularity| {
            Header::of::<u64>(0, 0, granularity, 1, origin, Removal::Persistent).unwrap()
        };
        assert_eq!(header(1).total_len, LEN as u64 + 8);
        assert_eq!(header(2 << 20).total_len, 2 << 20);
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
        let cases: [(Change, CorruptHeader); 6] = [
            (|h| h.value_offset = 8, CorruptHeader::MisplacedValue),
            (|h| h.directory_len = 1000, CorruptHeader::MisplacedValue),
            (|h| h.value_offset = u64::MAX, CorruptHeader::MisplacedValue),
            (|h| h.layout.size = u64::MAX, CorruptHeader::MisplacedValue),
            (|h| h.layout.align = 3, CorruptHeader::MisplacedValue),
            (|h| h.pid_namespace = 0, CorruptHeader::NoPidNamespace),
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
                // Whatever passes the layout check has room for the value.
                if header.check_layout::<(u64, [u32; 5])>().is_ok() {
                    let room = len - header.value_offset;
                    prop_assert!(room >= size_of::<(u64, [u32; 5])>() as u64);
                    prop_assert!(header.value_offset.is_multiple_of(8));
                }
            }
        }

        #[test]
        fn headers_survive_writing_and_reading(
            namespace in 1..u32::MAX,
            creator in any::<u32>(),
            fingerprint in any::<u128>(),
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
