//! The directory of a segment: where its sync objects are, and what they are
//! called, for programs that don't know the type.
//!
//! It follows the header. An array is one entry, however long it is. All
//! numbers are little-endian.
//!
//! | bytes of an entry | content |
//! |---|---|
//! | 0 | kind of object (1: `ShmMutex`, 2: `ShmCondvar`, 3: `PthreadCondvar`) |
//! | 1 | number of repeats r: how many arrays it is in |
//! | 2–3 | length of the path in bytes |
//! | 4–7 | size of the object's own part in bytes |
//! | 8–15 | offset of the first object from the start of the value |
//! | then r times 16 | count and stride in bytes of each array, outermost first |
//! | then | path, UTF-8, with `[]` for each array: `.workers[].lock` |
//!
//! [`parse`] is total: any bytes give entries that keep inside the value, or an
//! error.

use crate::error::CorruptHeader;
use crate::shm_safe::{FieldPath, SyncKind};

use crate::segment::content::SegmentContent;

/// The fixed part of an entry in bytes.
const FIXED: usize = 16;
/// One repeat in bytes.
const REPEAT: usize = 16;

/// Sync objects of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: SyncKind,
    /// The path, with `[]` for each array.
    pattern: String,
    offset: u64,
    size: u32,
    /// Count and stride of each array, outermost first.
    repeats: Vec<(u64, u64)>,
}

impl Entry {
    /// How many objects it stands for.
    pub(crate) fn count(&self) -> u64 {
        self.repeats
            .iter()
            .fold(1, |product: u64, (count, _)| product.saturating_mul(*count))
    }

    /// The size of one object's own part in bytes.
    pub(crate) fn size(&self) -> u64 {
        u64::from(self.size)
    }

    /// Where object number `index` of them is, in bytes from the start of the value.
    /// The innermost array's index runs fastest, as in memory.
    pub(crate) fn offset(&self, index: u64) -> Option<u64> {
        if index >= self.count() {
            return None;
        }
        let steps = self.repeats.iter().rev();
        let (offset, _) = steps.fold((self.offset, index), |(offset, rest), (count, stride)| {
            (offset + rest % count * stride, rest / count)
        });
        Some(offset)
    }

    /// The path of object number `index` of them.
    pub(crate) fn path(&self, index: u64) -> Option<String> {
        if index >= self.count() {
            return None;
        }
        let mut rest = index;
        let mut indices = Vec::with_capacity(self.repeats.len());
        for (count, _) in self.repeats.iter().rev() {
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

    /// The object that `path` names: its offset from the start of the value.
    pub(crate) fn find(&self, path: &str) -> Option<u64> {
        let mut rest = path;
        let mut offset = self.offset;
        let mut parts = self.pattern.split("[]");
        rest = rest.strip_prefix(parts.next()?)?;
        for (part, (count, stride)) in parts.zip(&self.repeats) {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            let index: u64 = index.parse().ok().filter(|index| index < count)?;
            offset += index * stride;
            rest = after.strip_prefix(part)?;
        }
        rest.is_empty().then_some(offset)
    }

    /// Whether every object lies inside a value of that size.
    fn fits(&self, value_size: u64) -> bool {
        let last = self
            .repeats
            .iter()
            .try_fold(self.offset, |offset, (count, stride)| {
                let way = count.checked_sub(1)?.checked_mul(*stride)?;
                offset.checked_add(way)
            });
        last.and_then(|last| last.checked_add(self.size()))
            .is_some_and(|end| end <= value_size)
    }
}

/// The directory of a `T` with `len` elements.
pub(in crate::segment) fn of<T: SegmentContent + ?Sized>(len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    T::visit(len, &FieldPath::pattern(), &mut |at, object| {
        let path = at.to_string();
        let repeats = at.array_dims();
        // Types nested so deeply, or with names so long, that this is cut short
        // are shown cut short.
        let path = crate::segment::format::header::truncated(&path, usize::from(u16::MAX));
        bytes.push(object.kind as u8);
        bytes.push(u8::try_from(repeats.len()).unwrap_or(u8::MAX));
        bytes.extend((path.len() as u16).to_le_bytes());
        bytes.extend((object.size as u32).to_le_bytes());
        bytes.extend((at.offset() as u64).to_le_bytes());
        for (count, stride) in repeats.iter().take(usize::from(u8::MAX)) {
            bytes.extend(count.to_le_bytes());
            bytes.extend(stride.to_le_bytes());
        }
        bytes.extend(path.as_bytes());
    });
    bytes
}

/// Reads a directory of a value of `value_size` bytes.
pub(crate) fn parse(mut bytes: &[u8], value_size: u64) -> Result<Vec<Entry>, CorruptHeader> {
    let mut entries = Vec::new();
    // Objects don't overlap, so together they are no larger than the value. That
    // also bounds the work of those who look at each.
    let mut room = value_size;
    while !bytes.is_empty() {
        let (entry, rest) = parse_entry(bytes).ok_or(CorruptHeader::UnreadableDirectory)?;
        if !entry.fits(value_size) || entry.size == 0 {
            return Err(CorruptHeader::MisplacedObject);
        }
        let taken = entry.count().checked_mul(entry.size());
        room = taken
            .and_then(|taken| room.checked_sub(taken))
            .ok_or(CorruptHeader::MisplacedObject)?;
        entries.push(entry);
        bytes = rest;
    }
    Ok(entries)
}

fn parse_entry(bytes: &[u8]) -> Option<(Entry, &[u8])> {
    let (fixed, rest) = bytes.split_at_checked(FIXED)?;
    let path_len = usize::from(u16::from_le_bytes([fixed[2], fixed[3]]));
    let (repeats, rest) = rest.split_at_checked(usize::from(fixed[1]) * REPEAT)?;
    let (path, rest) = rest.split_at_checked(path_len)?;
    let entry = Entry {
        kind: SyncKind::from_code(fixed[0])?,
        pattern: str::from_utf8(path).ok()?.to_owned(),
        offset: u64_at(fixed, 8),
        size: u32::from_le_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
        repeats: repeats
            .chunks_exact(REPEAT)
            .map(|repeat| (u64_at(repeat, 0), u64_at(repeat, 8)))
            .collect(),
    };
    Some((entry, rest))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::content::WithTail;
    use crate::shm_safe::Fingerprint;
    use crate::shm_safe::{ShmSafe, SyncOps, Visitor};
    use proptest::prelude::*;

    /// What looks like a lock, and never comes to life.
    struct Lock(#[expect(dead_code, reason = "it is there for its size")] u64);

    static LOCK: SyncOps = SyncOps {
        kind: SyncKind::Mutex,
        size: size_of::<Lock>(),
        init: |_, _| Ok(()),
        init_zeroed: |_| {},
        reinit: |_, _| Ok(()),
        is_held_by_this_process: |_| false,
    };

    // SAFETY: plain bytes; one object at offset 0, which is never used.
    unsafe impl ShmSafe for Lock {
        const FINGERPRINT: Fingerprint = Fingerprint::of("Lock", 8, 8);
        const SYNC_OBJECTS: usize = 1;

        fn visit(at: &FieldPath<'_>, report: &mut Visitor<'_>) {
            report(at, &LOCK);
        }
    }

    type Grid = [[(u64, Lock); 3]; 2];
    type Farm = (Lock, Grid, [Lock; 0]);

    fn object(entry: &Entry, index: u64) -> (String, u64) {
        (entry.path(index).unwrap(), entry.offset(index).unwrap())
    }

    /// The objects that the directory names, and those that a walk finds.
    fn both<T: SegmentContent + ?Sized>(len: usize) -> [Vec<(String, u64)>; 2] {
        let size = T::size(len as u64).unwrap();
        let entries = parse(&of::<T>(len), size).unwrap();
        let mut named: Vec<_> = entries
            .iter()
            .flat_map(|entry| (0..entry.count()).map(|index| object(entry, index)))
            .collect();
        let mut found = Vec::new();
        T::visit(len, &FieldPath::root(), &mut |at, _| {
            found.push((at.to_string(), at.offset() as u64));
        });
        // By entry, or by element: each in its own order.
        named.sort();
        found.sort();
        [named, found]
    }

    #[test]
    fn smoke() {
        let [named, found] = both::<Farm>(0);
        assert_eq!(named.len(), 7);
        assert_eq!(named, found);
        assert_eq!(found[6].0, ".1[1][2].1");
    }

    #[test]
    fn variable_lengths_are_listed_as_they_are() {
        let [named, found] = both::<[(u64, Lock)]>(5);
        assert_eq!(named, found);
        assert_eq!(found[4].0, "[4].1");
        let [named, found] = both::<WithTail<Farm, [Farm]>>(3);
        assert_eq!(named, found);
        assert_eq!(named.len(), 4 * 7);
        assert_eq!(both::<[Lock]>(0), [Vec::new(), Vec::new()]);
        assert_eq!(both::<Lock>(0)[0], [(String::new(), 0)]);
    }

    #[test]
    fn objects_are_found_by_their_paths() {
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
    fn what_leaves_the_value_is_damage() {
        let bytes = of::<Farm>(0);
        let size = size_of::<Farm>() as u64;
        assert!(parse(&bytes, size).is_ok());
        let short = parse(&bytes, size - 8);
        assert_eq!(short, Err(CorruptHeader::MisplacedObject));
        let cut = parse(&bytes[..bytes.len() - 1], size);
        assert_eq!(cut, Err(CorruptHeader::UnreadableDirectory));
    }

    proptest! {
        #[test]
        fn any_bytes_are_entries_that_keep_inside_or_an_error(
            changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            size in prop_oneof![Just(size_of::<Farm>() as u64), any::<u64>()],
            index in any::<u64>(),
        ) {
            let mut bytes = of::<Farm>(0);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            for entry in parse(&bytes, size).unwrap_or_default() {
                for index in [0, entry.count() - 1, index % entry.count()] {
                    let (_, offset) = object(&entry, index);
                    prop_assert!(offset + entry.size() <= size);
                }
            }
        }
    }
}
