//! The lock table of a segment: the kind, the path and the offset of each sync object,
//! for programs that do not know the type.
//!
//! It follows the header. An array of any length is one entry. All numbers are
//! little-endian.
//!
//! | bytes of an entry | content |
//! |---|---|
//! | 0 | kind of object (1: `ShmMutex`, 2: `ShmCondvar`, 3: `PthreadCondvar`, 4: seat, 5: `ShmEvent`) |
//! | 1 | number of arrays around it, n |
//! | 2–3 | length of the path in bytes |
//! | 4–7 | size of the object in bytes; of a mutex, the lock without the data |
//! | 8–15 | offset of the first object from the start of the value |
//! | 16–, n times 16 | count and stride in bytes of each array, outermost first |
//! | then | path, UTF-8, with `[]` for each array: `.workers[].lock` |
//!
//! [`parse`] is total: any bytes give entries whose objects are inside the value, or an
//! error.

use crate::error::CorruptHeader;
use crate::segment::format::header::truncated;
use crate::shm_safe::{FieldPath, SegmentContent, SyncKind};

/// The length of the fixed part of an entry in bytes.
const FIXED: usize = 16;
/// The length of one array in an entry in bytes.
const ARRAY: usize = 16;

/// The sync objects of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: SyncKind,
    /// The path, with `[]` for each array.
    pattern: String,
    offset: u64,
    size: u32,
    /// Count and stride in bytes of each array, outermost first.
    arrays: Vec<(u64, u64)>,
}

impl Entry {
    /// Returns the number of objects.
    pub(crate) fn count(&self) -> u64 {
        self.arrays
            .iter()
            .fold(1, |product: u64, (count, _)| product.saturating_mul(*count))
    }

    /// Returns the size of one object in bytes. For a mutex, it is that of the lock
    /// without the data.
    pub(crate) fn size(&self) -> u64 {
        u64::from(self.size)
    }

    /// Returns the offset of object number `index` in bytes from the start of the
    /// value. The index of the innermost array runs fastest, as in memory.
    pub(crate) fn offset(&self, index: u64) -> Option<u64> {
        if index >= self.count() {
            return None;
        }
        let steps = self.arrays.iter().rev();
        let (offset, _) = steps.fold((self.offset, index), |(offset, rest), (count, stride)| {
            (offset + rest % count * stride, rest / count)
        });
        Some(offset)
    }

    /// Returns the path of object number `index`.
    pub(crate) fn path(&self, index: u64) -> Option<String> {
        if index >= self.count() {
            return None;
        }
        let mut rest = index;
        let mut indices = Vec::with_capacity(self.arrays.len());
        for (count, _) in self.arrays.iter().rev() {
            indices.push(rest % count);
            rest /= count;
        }
        let mut parts = self.pattern.split("[]");
        let mut path = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            match indices.pop() {
                Some(index) => path += &format!("[{index}]"),
                None => path += "[]",
            }
            path += part;
        }
        Some(path)
    }

    /// Returns the offset of the object with this path, in bytes from the start of the
    /// value.
    pub(crate) fn find(&self, path: &str) -> Option<u64> {
        let mut rest = path;
        let mut offset = self.offset;
        let mut parts = self.pattern.split("[]");
        rest = rest.strip_prefix(parts.next()?)?;
        for (part, (count, stride)) in parts.zip(&self.arrays) {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            let index: u64 = index.parse().ok().filter(|index| index < count)?;
            offset += index * stride;
            rest = after.strip_prefix(part)?;
        }
        rest.is_empty().then_some(offset)
    }

    /// Returns whether every object is inside a value of `value_size` bytes.
    fn fits(&self, value_size: u64) -> bool {
        let last = self
            .arrays
            .iter()
            .try_fold(self.offset, |offset, (count, stride)| {
                let to_last = count.checked_sub(1)?.checked_mul(*stride)?;
                offset.checked_add(to_last)
            });
        last.and_then(|last| last.checked_add(self.size()))
            .is_some_and(|end| end <= value_size)
    }
}

/// Returns the lock table of a `T` with `len` elements.
///
/// The depth of nested arrays and the length of a path are limited by the format. A
/// type that exceeds them is listed with the first 255 arrays and the beginning of the
/// path.
pub(in crate::segment) fn of<T: SegmentContent + ?Sized>(len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    T::visit(len, &FieldPath::pattern(), &mut |path, ops| {
        let arrays = path.array_dims();
        let offset = path.offset() as u64;
        let path = path.to_string();
        let path = truncated(&path, usize::from(u16::MAX));
        bytes.push(ops.kind as u8);
        bytes.push(u8::try_from(arrays.len()).unwrap_or(u8::MAX));
        bytes.extend((path.len() as u16).to_le_bytes());
        bytes.extend((ops.size as u32).to_le_bytes());
        bytes.extend(offset.to_le_bytes());
        for (count, stride) in arrays.iter().take(usize::from(u8::MAX)) {
            bytes.extend(count.to_le_bytes());
            bytes.extend(stride.to_le_bytes());
        }
        bytes.extend(path.as_bytes());
    });
    bytes
}

/// Reads the lock table of a value of `value_size` bytes.
///
/// # Errors
///
/// * [`CorruptHeader::UnreadableLockTable`]: the bytes are not entries.
/// * [`CorruptHeader::MisplacedObject`]: an object is outside the value, or the objects
///   are together larger than the value.
pub(crate) fn parse(mut bytes: &[u8], value_size: u64) -> Result<Vec<Entry>, CorruptHeader> {
    let mut entries = Vec::new();
    // Objects do not overlap, so together they are no larger than the value. This also
    // bounds the work of a caller that visits each object.
    let mut room = value_size;
    while !bytes.is_empty() {
        let (entry, rest) = parse_entry(bytes).ok_or(CorruptHeader::UnreadableLockTable)?;
        if !entry.fits(value_size) || entry.size == 0 {
            return Err(CorruptHeader::MisplacedObject);
        }
        let total = entry.count().checked_mul(entry.size());
        room = total
            .and_then(|total| room.checked_sub(total))
            .ok_or(CorruptHeader::MisplacedObject)?;
        entries.push(entry);
        bytes = rest;
    }
    Ok(entries)
}

/// Returns the first entry and the bytes after it.
fn parse_entry(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (fixed, rest) = bytes.split_at_checked(FIXED)?;
    let path_len = usize::from(u16::from_le_bytes([fixed[2], fixed[3]]));
    let (arrays, rest) = rest.split_at_checked(usize::from(fixed[1]) * ARRAY)?;
    let (path, rest) = rest.split_at_checked(path_len)?;
    let entry = Entry {
        kind: SyncKind::from_code(fixed[0])?,
        pattern: std::str::from_utf8(path).ok()?.to_owned(),
        offset: u64_at(fixed, 8),
        size: u32::from_le_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        arrays: arrays
            .chunks_exact(ARRAY)
            .map(|array| (u64_at(array, 0), u64_at(array, 8)))
            .collect(),
    };
    Some((entry, rest))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[offset + i]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;
    use crate::shm_safe::{Parts, ShmSafe, SyncOps, Visitor, WithTail};
    use proptest::prelude::*;

    /// A sync object that is never initialised.
    struct Lock(#[expect(dead_code, reason = "only the size matters")] u64);

    static LOCK: SyncOps = SyncOps {
        kind: SyncKind::Mutex,
        size: size_of::<Lock>(),
        init: |_, _| Ok(()),
        init_zeroed: |_| {},
        reinit: |_, _| Ok(()),
        is_held_by_this_process: |_| false,
    };

    // SAFETY: the one field has the layout and the values of u64; the one sync object
    // begins at offset 0, and nothing operates on it.
    unsafe impl ShmSafe for Lock {
        const PARTS: Parts = Parts::opaque("Lock", 8, 8);
        const SYNC_OBJECTS: usize = 1;

        fn visit(path: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
            visitor(path, &LOCK);
        }
    }

    type Grid = [[(u64, Lock); 3]; 2];
    type Farm = (Lock, Grid, [Lock; 0]);

    fn object(entry: &Entry, index: u64) -> (String, u64) {
        (entry.path(index).unwrap(), entry.offset(index).unwrap())
    }

    /// Returns the objects in the lock table, and those that a walk finds, both sorted.
    fn listed_and_visited<T: SegmentContent + ?Sized>(len: usize) -> [Vec<(String, u64)>; 2] {
        let size = T::size(len as u64).unwrap();
        let entries = parse(&of::<T>(len), size).unwrap();
        let mut listed: Vec<_> = entries
            .iter()
            .flat_map(|entry| (0..entry.count()).map(|index| object(entry, index)))
            .collect();
        let mut visited = Vec::new();
        T::visit(len, &FieldPath::root(), &mut |path, _| {
            visited.push((path.to_string(), path.offset() as u64));
        });
        listed.sort();
        visited.sort();
        [listed, visited]
    }

    #[test]
    fn smoke() {
        let [listed, visited] = listed_and_visited::<Farm>(0);
        assert_eq!(listed.len(), 7);
        assert_eq!(listed, visited);
        assert_eq!(visited[6].0, ".1[1][2].1");
    }

    #[test]
    fn variable_lengths_are_listed() {
        let [listed, visited] = listed_and_visited::<[(u64, Lock)]>(5);
        assert_eq!(listed, visited);
        assert_eq!(visited[4].0, "[4].1");
        let [listed, visited] = listed_and_visited::<WithTail<Farm, [Farm]>>(3);
        assert_eq!(listed, visited);
        assert_eq!(listed.len(), 4 * 7);
        assert_eq!(listed_and_visited::<[Lock]>(0), [Vec::new(), Vec::new()]);
        assert_eq!(listed_and_visited::<Lock>(0)[0], [(String::new(), 0)]);
    }

    #[test]
    fn objects_are_found_by_path() {
        let size = size_of::<Farm>() as u64;
        let entries = parse(&of::<Farm>(0), size).unwrap();
        for entry in &entries {
            for index in 0..entry.count() {
                let (path, offset) = object(entry, index);
                assert_eq!(entry.find(&path), Some(offset), "{path}");
            }
            assert_eq!(entry.offset(entry.count()), None);
            assert_eq!(entry.path(entry.count()), None);
        }
        for wrong in [
            "",
            ".1[2][0].1",
            ".1[0][3].1",
            ".1[0].1",
            ".1[][].1",
            ".1[0][0].1x",
        ] {
            assert!(
                entries.iter().all(|entry| entry.find(wrong).is_none()),
                "{wrong}"
            );
        }
    }

    #[test]
    fn object_outside_value_is_corrupt() {
        let bytes = of::<Farm>(0);
        let size = size_of::<Farm>() as u64;
        assert!(parse(&bytes, size).is_ok());
        let short = parse(&bytes, size - 8);
        assert_eq!(short, Err(CorruptHeader::MisplacedObject));
        let cut = parse(&bytes[..bytes.len() - 1], size);
        assert_eq!(cut, Err(CorruptHeader::UnreadableLockTable));
    }

    proptest! {
        #[test]
        fn any_bytes_parse_inside_value_or_fail(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            size in prop_oneof![Just(size_of::<Farm>() as u64), any::<u64>()],
            index in any::<u64>(),
        ) {
            let mut bytes = of::<Farm>(0);
            for (index, byte) in changes {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            for entry in parse(&bytes, size).unwrap_or_default() {
                for index in [0, entry.count() - 1, index % entry.count()] {
                    let (_, offset) = object(&entry, index);
                    prop_assert!(offset + entry.size() <= size);
                }
            }
        }
    }

    #[test]
    fn numbers_are_documented() {
        // One array of four events, 8 bytes into the value.
        let bytes = [
            &[5, 1, 2, 0, 24, 0, 0, 0][..],
            &8_u64.to_le_bytes(),
            &4_u64.to_le_bytes(),
            &32_u64.to_le_bytes(),
            b"[]",
        ]
        .concat();
        let [entry] = &parse(&bytes, 1000).expect("it is an entry")[..] else {
            panic!("there is one entry");
        };
        assert_eq!(
            (entry.kind, entry.offset, entry.size),
            (SyncKind::Event, 8, 24)
        );
        assert_eq!((&*entry.pattern, &*entry.arrays), ("[]", &[(4, 32)][..]));
        let path_at = bytes.len() - 2;
        documented::rows(
            "entry of the lock table",
            &[
                ("kind", 0, 1),
                ("arrays", 1, 1),
                ("path_len", 2, 2),
                ("size", 4, 4),
                ("offset", 8, 8),
                ("dimensions", FIXED, ARRAY),
                ("path", path_at, 2),
            ],
            &[("A", 1), ("P", 2)],
            None,
        );
    }
}
