//! The entry points of the fuzz targets: see `fuzz/`.

use std::ops::Range;

use crate::segment::internals::{HEADER_LEN, Header, parse_lock_table};

pub use crate::inspect::fuzz::{Choices, object, system_v, type_table};

/// The bytes of the epoch in a header.
const EPOCH: Range<usize> = 104..144;

/// Checks that the claims of every header that parses hold for the object.
///
/// # Panics
///
/// If they do not.
pub fn header(bytes: &[u8], object_len: u64) {
    let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else {
        return;
    };
    if let Ok(header) = Header::parse(bytes, object_len) {
        let after_lock_table = HEADER_LEN as u64 + u64::from(header.lock_table_len);
        let after_type_table = match header.type_table_len {
            0 => after_lock_table,
            len => header.type_table_offset() + u64::from(len),
        };
        let end = header.value_offset.checked_add(header.layout.size).unwrap();
        assert!(after_lock_table <= after_type_table);
        assert!(after_type_table <= header.value_offset && end <= object_len);
        assert!(header.value_offset % header.layout.align == 0);
        let _ = header.check_abi();
        let again = header.to_bytes();
        assert_eq!(again[EPOCH], bytes[EPOCH]);
        assert_eq!(Header::parse(&again, object_len).unwrap(), header);
        assert!(header.epoch.matches(header.epoch));
    }
}

/// Checks that every object in a lock table that parses is inside the value.
///
/// # Panics
///
/// If one is not.
pub fn lock_table(bytes: &[u8], value_size: u64, path: &str) {
    for entry in parse_lock_table(bytes, value_size).unwrap_or_default() {
        let count = entry.count();
        for index in [0, count / 2, count - 1] {
            let offset = entry.offset(index).unwrap();
            assert!(offset + entry.size() <= value_size);
            let path = entry.path(index).unwrap();
            let _ = entry.find(&path);
        }
        if let Some(offset) = entry.find(path) {
            assert!(offset + entry.size() <= value_size);
        }
        assert_eq!(entry.offset(count), None);
    }
}
