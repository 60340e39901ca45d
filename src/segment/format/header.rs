//! The header of a segment: the type of its value, and where the value is.
//!
//! [`offsets`] has the table of its fields. The lock table, the type table and the
//! value follow it.
//!
//! [`Header::parse`] is total: any bytes give a header whose claims hold for the
//! object, or a typed error.

use std::time::SystemTime;

use crate::error::{Abi, CorruptHeader, Error, Layout};
use crate::os::mem::MIN_PAGE;
use crate::os::pthread;
use crate::segment::format::epoch::{Epoch, Validity};
use crate::segment::format::{offsets, type_table};
use crate::segment::policy::Removal;
use crate::shm_safe::{Fingerprint, SegmentContent};

/// The length of a header in bytes.
pub(crate) const LEN: usize = offsets::LEN;

/// The first bytes of every segment.
pub(crate) const MAGIC: [u8; 8] = *b"shmsync\0";

/// The version of the format. Increase it with every change of the format, and with
/// every change in the layout of a primitive that the fingerprint does not show.
const FORMAT: u32 = 4;

/// A value begins on a cache line of its own, even if its alignment is smaller.
const CACHE_LINE: u64 = 64;

/// The platform that this program is built for.
const OUR_ABI: Abi = Abi {
    libc: pthread::LIBC,
    endianness: if cfg!(target_endian = "little") { 1 } else { 2 },
    pointer_width: size_of::<usize>() as u8,
    pthread_mutex: pthread::MUTEX_SIZE,
    pthread_cond: pthread::COND_SIZE,
};

/// Fails to compile if `T` needs a larger alignment than a mapping has.
pub(super) const fn assert_mappable<T: SegmentContent + ?Sized>() {
    assert!(
        T::ALIGN <= MIN_PAGE,
        "a mapping is aligned to a page of 4096 bytes, and this type asks for more"
    );
}

/// A parsed header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) removal: Removal,
    pub(crate) pid_namespace: u32,
    pub(crate) creator: u32,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) total_len: u64,
    pub(crate) value_offset: u64,
    /// The number of elements, if the creator chose it, else 0.
    pub(crate) len: u64,
    pub(crate) lock_table_len: u32,
    /// 0 if there is no type table.
    pub(crate) type_table_len: u32,
    pub(crate) epoch: Epoch,
    pub(crate) layout: Layout,
}

impl Header {
    /// Returns the header of a segment that this process creates: for a `T` with `len`
    /// elements, in an object whose length is a multiple of `granularity` bytes.
    /// Returns `None` if its length exceeds every memory.
    pub(in crate::segment) fn of<T: SegmentContent + ?Sized>(
        len: u64,
        lock_table_len: usize,
        type_table_len: usize,
        granularity: u64,
        pid_namespace: u32,
        epoch: Epoch,
        removal: Removal,
    ) -> Option<Self> {
        let size = T::size(len)?;
        let align = (T::ALIGN as u64).max(CACHE_LINE);
        let lock_table_len = u32::try_from(lock_table_len).ok()?;
        let type_table_len = u32::try_from(type_table_len).ok()?;
        let type_table = type_table_offset(lock_table_len);
        let value_offset = (type_table + u64::from(type_table_len)).next_multiple_of(align);
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
            lock_table_len,
            type_table_len,
            epoch,
            layout: layout_of::<T>(size),
        })
    }

    /// Returns the epoch and the pid namespace for which the locks are valid.
    pub(in crate::segment) fn validity(&self) -> Validity {
        Validity {
            epoch: self.epoch,
            pid_namespace: self.pid_namespace,
        }
    }

    /// Checks that the segment contains a `T` with the layout that it has in this
    /// program. Returns the number of elements.
    ///
    /// # Errors
    ///
    /// [`Error::LayoutMismatch`].
    pub(in crate::segment) fn check_layout<T: SegmentContent + ?Sized>(
        &self,
    ) -> Result<usize, Error> {
        const { assert_mappable::<T>() };
        let mismatch = |size| Error::LayoutMismatch {
            address: None,
            expected: Box::new(layout_of::<T>(size)),
            found: Box::new(self.layout.clone()),
            field: None,
        };
        let size = T::size(self.len).or_else(|| T::size(0)).unwrap_or_default();
        let expected = layout_of::<T>(size);
        let is_same = self.layout.abi == expected.abi
            && self.layout.fingerprint == expected.fingerprint
            && self.layout.size == expected.size
            && self.layout.align == expected.align
            && T::size(self.len).is_some();
        if !is_same {
            return Err(mismatch(size));
        }
        usize::try_from(self.len).map_err(|_| mismatch(size))
    }

    pub(crate) fn to_bytes(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let layout = &self.layout;
        let name = truncated(&layout.type_name, offsets::TYPE_NAME.len()).as_bytes();
        let mut padded_name = [0; offsets::TYPE_NAME.len()];
        padded_name[..name.len()].copy_from_slice(name);

        offsets::MAGIC.write(&mut bytes, MAGIC);
        offsets::FORMAT.write(&mut bytes, FORMAT.to_le_bytes());
        offsets::LIBC.write(&mut bytes, [layout.abi.libc]);
        offsets::ENDIANNESS.write(&mut bytes, [layout.abi.endianness]);
        offsets::POINTER_WIDTH.write(&mut bytes, [layout.abi.pointer_width]);
        offsets::PTHREAD_MUTEX.write(&mut bytes, [layout.abi.pthread_mutex]);
        offsets::PTHREAD_COND.write(&mut bytes, [layout.abi.pthread_cond]);
        offsets::REMOVAL.write(&mut bytes, [self.removal.to_code()]);
        offsets::PID_NAMESPACE.write(&mut bytes, self.pid_namespace.to_le_bytes());
        offsets::TOTAL_LEN.write(&mut bytes, self.total_len.to_le_bytes());
        offsets::VALUE_OFFSET.write(&mut bytes, self.value_offset.to_le_bytes());
        offsets::VALUE_SIZE.write(&mut bytes, layout.size.to_le_bytes());
        offsets::VALUE_ALIGN.write(&mut bytes, layout.align.to_le_bytes());
        offsets::FINGERPRINT.write(&mut bytes, layout.fingerprint.to_bits().to_le_bytes());
        offsets::ELEMENTS.write(&mut bytes, self.len.to_le_bytes());
        offsets::CREATED.write(&mut bytes, self.created.to_le_bytes());
        offsets::LOCK_TABLE_LEN.write(&mut bytes, self.lock_table_len.to_le_bytes());
        offsets::TYPE_TABLE_LEN.write(&mut bytes, self.type_table_len.to_le_bytes());
        offsets::CREATOR.write(&mut bytes, self.creator.to_le_bytes());
        offsets::TYPE_NAME_LEN.write(&mut bytes, (name.len() as u32).to_le_bytes());
        offsets::EPOCH.write(&mut bytes, self.epoch.to_bytes());
        offsets::TYPE_NAME.write(&mut bytes, padded_name);
        bytes
    }

    /// Reads the header of an object that is `object_len` bytes long.
    ///
    /// # Errors
    ///
    /// * [`Error::NotASegment`]: it does not begin with [`MAGIC`].
    /// * [`Error::UnsupportedFormat`]: another version of this crate created it.
    /// * [`Error::Corrupt`]: a field is invalid for this object.
    pub(crate) fn parse(bytes: &[u8; LEN], object_len: u64) -> Result<Self, Error> {
        if offsets::MAGIC.read(bytes) != MAGIC {
            return Err(Error::NotASegment { address: None });
        }
        let format = u32::from_le_bytes(offsets::FORMAT.read(bytes));
        if format != FORMAT {
            return Err(Error::UnsupportedFormat {
                address: None,
                found: format,
                supported: FORMAT,
            });
        }
        let [removal] = offsets::REMOVAL.read(bytes);
        let [libc] = offsets::LIBC.read(bytes);
        let [endianness] = offsets::ENDIANNESS.read(bytes);
        let [pointer_width] = offsets::POINTER_WIDTH.read(bytes);
        let [pthread_mutex] = offsets::PTHREAD_MUTEX.read(bytes);
        let [pthread_cond] = offsets::PTHREAD_COND.read(bytes);
        let fingerprint = u128::from_le_bytes(offsets::FINGERPRINT.read(bytes));
        let header = Self {
            removal: Removal::from_code(removal).ok_or(CorruptHeader::UnknownRemoval)?,
            pid_namespace: u32::from_le_bytes(offsets::PID_NAMESPACE.read(bytes)),
            creator: u32::from_le_bytes(offsets::CREATOR.read(bytes)),
            created: u64::from_le_bytes(offsets::CREATED.read(bytes)),
            total_len: u64::from_le_bytes(offsets::TOTAL_LEN.read(bytes)),
            value_offset: u64::from_le_bytes(offsets::VALUE_OFFSET.read(bytes)),
            len: u64::from_le_bytes(offsets::ELEMENTS.read(bytes)),
            lock_table_len: u32::from_le_bytes(offsets::LOCK_TABLE_LEN.read(bytes)),
            type_table_len: u32::from_le_bytes(offsets::TYPE_TABLE_LEN.read(bytes)),
            epoch: Epoch::from_bytes(&offsets::EPOCH.read(bytes)),
            layout: Layout {
                size: u64::from_le_bytes(offsets::VALUE_SIZE.read(bytes)),
                align: u64::from_le_bytes(offsets::VALUE_ALIGN.read(bytes)),
                fingerprint: Fingerprint::from_bits(fingerprint),
                type_name: type_name(bytes).ok_or(CorruptHeader::UnreadableTypeName)?,
                abi: Abi {
                    libc,
                    endianness,
                    pointer_width,
                    pthread_mutex,
                    pthread_cond,
                },
            },
        };
        header.check_against(object_len)?;
        Ok(header)
    }

    /// Checks that the claims hold for an object that is `object_len` bytes long.
    fn check_against(&self, object_len: u64) -> Result<(), CorruptHeader> {
        if self.total_len != object_len {
            return Err(CorruptHeader::WrongSize {
                claimed: self.total_len,
                actual: object_len,
            });
        }
        let after_tables = match self.type_table_len {
            0 => LEN as u64 + u64::from(self.lock_table_len),
            len => self.type_table_offset() + u64::from(len),
        };
        let end = self.value_offset.checked_add(self.layout.size);
        let is_inside = self.value_offset >= after_tables
            && end.is_some_and(|end| end <= object_len)
            && object_len <= isize::MAX as u64;
        let is_aligned =
            self.layout.align.is_power_of_two() && self.value_offset % self.layout.align == 0;
        if !(is_inside && is_aligned) {
            return Err(CorruptHeader::MisplacedValue);
        }
        if self.pid_namespace == 0 {
            return Err(CorruptHeader::NoPidNamespace);
        }
        Ok(())
    }

    /// Returns the offset in bytes at which the type table begins, if there is one.
    pub(crate) fn type_table_offset(&self) -> u64 {
        type_table_offset(self.lock_table_len)
    }

    /// Returns whether the locks are those of this platform, so that this program can
    /// read them.
    pub(crate) fn is_of_our_abi(&self) -> bool {
        self.layout.abi == OUR_ABI
    }

    /// Checks that the locks are those of this platform.
    ///
    /// # Errors
    ///
    /// [`Error::LayoutMismatch`].
    pub(crate) fn check_abi(&self) -> Result<(), Error> {
        if self.is_of_our_abi() {
            return Ok(());
        }
        let mut expected = self.layout.clone();
        expected.abi = OUR_ABI;
        Err(Error::LayoutMismatch {
            address: None,
            expected: Box::new(expected),
            found: Box::new(self.layout.clone()),
            field: None,
        })
    }
}

/// Returns the offset in bytes at which a type table begins.
fn type_table_offset(lock_table_len: u32) -> u64 {
    (LEN as u64 + u64::from(lock_table_len)).next_multiple_of(type_table::ALIGN)
}

fn layout_of<T: SegmentContent + ?Sized>(size: u64) -> Layout {
    Layout {
        // As long as the header can store it, so that equal names are equal.
        type_name: truncated(std::any::type_name::<T>(), offsets::TYPE_NAME.len()).to_owned(),
        fingerprint: T::DESCRIPTION.fingerprint(),
        size,
        align: T::ALIGN as u64,
        abi: OUR_ABI,
    }
}

fn type_name(bytes: &[u8; LEN]) -> Option<String> {
    let len = u32::from_le_bytes(offsets::TYPE_NAME_LEN.read(bytes));
    let name = offsets::TYPE_NAME.read(bytes);
    let name = name.get(..usize::try_from(len).ok()?)?;
    String::from_utf8(name.to_vec()).ok()
}

/// Returns the longest beginning of `text` that has at most `max` bytes.
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
    use crate::documented;
    use proptest::prelude::*;

    fn sample() -> Header {
        sample_of::<(u64, [u32; 5])>(0)
    }

    fn sample_of<T: SegmentContent + ?Sized>(len: u64) -> Header {
        let epoch = Epoch::ANONYMOUS;
        Header::of::<T>(
            len,
            10,
            24,
            1,
            4_026_531_836,
            epoch,
            Removal::UntilLastDetach,
        )
        .unwrap()
    }

    #[test]
    fn smoke() {
        let header = sample();
        let read = Header::parse(&header.to_bytes(), header.total_len).unwrap();
        assert_eq!(read, header);
        read.check_layout::<(u64, [u32; 5])>().unwrap();
    }

    /// The bytes of format 4, by offset. A change here needs a new [`FORMAT`].
    #[test]
    fn header_bytes_are_those_of_format_4() {
        let header = Header {
            removal: Removal::UntilLastDetach,
            pid_namespace: 0x2122_2324,
            creator: 0x9293_9495,
            created: 0x8182_8384_8586_8788,
            total_len: 0x2425_2627_2829_2a2b,
            value_offset: 0x3233_3435_3637_3839,
            len: 0x7273_7475_7677_7879,
            lock_table_len: 0x8889_8a8b,
            type_table_len: 0x9a9b_9c9d,
            epoch: Epoch::from_bytes(&std::array::from_fn(|i| 104 + i as u8)),
            layout: Layout {
                type_name: "Żółw".to_owned(),
                fingerprint: Fingerprint::from_bits(0x5657_5859_5a5b_5c5d_5e5f_6061_6263_6465),
                size: 0x4041_4243_4445_4647,
                align: 0x4849_4a4b_4c4d_4e4f,
                abi: Abi {
                    libc: 12,
                    endianness: 13,
                    pointer_width: 14,
                    pthread_mutex: 15,
                    pthread_cond: 16,
                },
            },
        };
        let mut expected = [0; LEN];
        let parts: [(usize, &[u8]); 18] = [
            (0, b"shmsync\0"),
            (8, &[4, 0, 0, 0]),
            (12, &[12, 13, 14, 15, 16, 1]),
            (20, &[0x24, 0x23, 0x22, 0x21]),
            (24, &[0x2b, 0x2a, 0x29, 0x28, 0x27, 0x26, 0x25, 0x24]),
            (32, &[0x39, 0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32]),
            (40, &[0x47, 0x46, 0x45, 0x44, 0x43, 0x42, 0x41, 0x40]),
            (48, &[0x4f, 0x4e, 0x4d, 0x4c, 0x4b, 0x4a, 0x49, 0x48]),
            (56, &[0x65, 0x64, 0x63, 0x62, 0x61, 0x60, 0x5f, 0x5e]),
            (64, &[0x5d, 0x5c, 0x5b, 0x5a, 0x59, 0x58, 0x57, 0x56]),
            (72, &[0x79, 0x78, 0x77, 0x76, 0x75, 0x74, 0x73, 0x72]),
            (80, &[0x88, 0x87, 0x86, 0x85, 0x84, 0x83, 0x82, 0x81]),
            (88, &[0x8b, 0x8a, 0x89, 0x88]),
            (92, &[0x95, 0x94, 0x93, 0x92]),
            (96, &[7, 0, 0, 0]),
            (100, &[0x9d, 0x9c, 0x9b, 0x9a]),
            (104, &std::array::from_fn::<u8, 40, _>(|i| 104 + i as u8)),
            (256, "Żółw".as_bytes()),
        ];
        for (offset, bytes) in parts {
            expected[offset..offset + bytes.len()].copy_from_slice(bytes);
        }
        assert_eq!(header.to_bytes(), expected);
    }

    #[test]
    fn layout_mismatch_names_both_types() {
        let Err(error) = sample().check_layout::<(u64, [u32; 6])>() else {
            panic!("[u32; 5] is not [u32; 6]");
        };
        let text = error.to_string();
        assert!(
            text.contains("[u32; 5]") && text.contains("[u32; 6]"),
            "{text}"
        );
    }

    #[test]
    fn layout_mismatch_escapes_type_names() {
        let mut header = sample();
        header.layout.type_name = "a\x1b[2J\u{9b}2J\u{202e}\n".to_owned();
        let error = header.check_layout::<u8>().unwrap_err();
        let shown = "the segment holds a\\u{1b}[2J\\u{9b}2J\\u{202e}\\n (";
        assert!(error.to_string().starts_with(shown), "{error}");
        assert!(!format!("{error:?}").contains(['\x1b', '\u{9b}', '\u{202e}', '\n']));
    }

    #[test]
    fn slice_length_is_read_and_checked() {
        let header = sample_of::<[u64]>(9);
        assert_eq!(header.check_layout::<[u64]>().unwrap(), 9);
        assert!(header.check_layout::<[u64; 9]>().is_err());
        assert!(header.check_layout::<[u32]>().is_err());
        let mut wrong = header.clone();
        wrong.len = 8;
        assert!(
            wrong.check_layout::<[u64]>().is_err(),
            "the size is that of 9 elements"
        );
        wrong.len = u64::MAX;
        assert!(
            wrong.check_layout::<[u64]>().is_err(),
            "the size exceeds every memory"
        );
    }

    #[test]
    fn total_len_is_multiple_of_granularity() {
        let epoch = sample().epoch;
        let header = |granularity| {
            Header::of::<u64>(0, 0, 0, granularity, 1, epoch, Removal::Persistent).unwrap()
        };
        assert_eq!(header(1).total_len, LEN as u64 + 8);
        assert_eq!(header(2 << 20).total_len, 2 << 20);
    }

    #[test]
    fn foreign_abi_is_layout_mismatch() {
        let mut header = sample();
        header.layout.abi.pthread_mutex += 8;
        let found = Header::parse(&header.to_bytes(), header.total_len).unwrap();
        assert!(matches!(
            found.check_layout::<(u64, [u32; 5])>(),
            Err(Error::LayoutMismatch { .. })
        ));
    }

    #[test]
    fn long_type_name_is_cut_between_characters() {
        let mut header = sample();
        header.layout.type_name = "ż".repeat(200);
        let read = Header::parse(&header.to_bytes(), header.total_len).unwrap();
        assert_eq!(
            read.layout.type_name,
            "ż".repeat(offsets::TYPE_NAME.len() / 2)
        );
    }

    #[test]
    fn each_corruption_has_its_error() {
        type Change = fn(&mut Header);
        let cases: [(Change, CorruptHeader); 8] = [
            (|h| h.value_offset = 8, CorruptHeader::MisplacedValue),
            (|h| h.lock_table_len = 1000, CorruptHeader::MisplacedValue),
            (|h| h.type_table_len = 100, CorruptHeader::MisplacedValue),
            (
                |h| h.type_table_len = u32::MAX,
                CorruptHeader::MisplacedValue,
            ),
            (|h| h.value_offset = u64::MAX, CorruptHeader::MisplacedValue),
            (|h| h.layout.size = u64::MAX, CorruptHeader::MisplacedValue),
            (|h| h.layout.align = 3, CorruptHeader::MisplacedValue),
            (|h| h.pid_namespace = 0, CorruptHeader::NoPidNamespace),
        ];
        for (change, expected) in cases {
            let mut header = sample();
            change(&mut header);
            match Header::parse(&header.to_bytes(), header.total_len) {
                Err(Error::Corrupt { reason, .. }) => assert_eq!(reason, expected),
                other => panic!("{other:?} is not {expected:?}"),
            }
        }
    }

    /// Returns headers with a few changed bytes, and random bytes.
    fn bytes() -> impl Strategy<Value = [u8; LEN]> {
        let noise = proptest::collection::vec(any::<u8>(), LEN);
        let damaged = proptest::collection::vec((0..LEN, any::<u8>()), 0..6).prop_map(|changes| {
            let mut bytes = sample().to_bytes();
            for (offset, byte) in changes {
                bytes[offset] = byte;
            }
            bytes.to_vec()
        });
        prop_oneof![1 => noise, 9 => damaged].prop_map(|bytes| bytes.try_into().unwrap())
    }

    proptest! {
        #[test]
        fn any_bytes_parse_inside_object_or_fail(
            bytes in bytes(),
            len in prop_oneof![Just(sample().total_len), any::<u64>()],
        ) {
            if let Ok(header) = Header::parse(&bytes, len) {
                let end = header.value_offset.checked_add(header.layout.size);
                prop_assert!(end.is_some_and(|end| end <= len));
                prop_assert!(header.value_offset >= LEN as u64);
                // A header that passes the layout check has room for the value.
                if header.check_layout::<(u64, [u32; 5])>().is_ok() {
                    let room = len - header.value_offset;
                    prop_assert!(room >= size_of::<(u64, [u32; 5])>() as u64);
                    prop_assert!(header.value_offset % 8 == 0);
                }
            }
        }

        #[test]
        fn headers_round_trip(
            namespace in 1..u32::MAX,
            creator in any::<u32>(),
            fingerprint in any::<u128>(),
            name in ".{0,60}",
        ) {
            let mut header = sample();
            header.pid_namespace = namespace;
            header.creator = creator;
            header.layout.fingerprint = Fingerprint::from_bits(fingerprint);
            header.layout.type_name = truncated(&name, offsets::TYPE_NAME.len()).to_owned();
            let read = Header::parse(&header.to_bytes(), header.total_len).unwrap();
            prop_assert_eq!(read, header);
        }
    }

    #[test]
    fn numbers_are_documented() {
        documented::values(
            "constants of the header",
            &[
                ("MAGIC", u64::from_le_bytes(MAGIC)),
                ("FORMAT", FORMAT.into()),
                ("LEN", LEN as u64),
                ("CACHE_LINE", CACHE_LINE),
                ("GLIBC", pthread::GLIBC.into()),
                ("MUSL", pthread::MUSL.into()),
                ("ENDIANNESS", OUR_ABI.endianness.into()),
                ("POINTER_WIDTH", OUR_ABI.pointer_width.into()),
                ("PTHREAD_MUTEX", OUR_ABI.pthread_mutex.into()),
                ("PTHREAD_COND", OUR_ABI.pthread_cond.into()),
            ],
        );
    }
}
