//! Type tables that another user has written. Each function that reads one ends soon,
//! and returns what is there, or a typed error.

use shm_sync::inspect::{self, Value, Values};
use shm_sync::{CorruptHeader, Error, FieldMismatch, Segment, ShmMutex};

use crate::support::{TestName, TypeTable, on_stage};

fn values(name: &TestName, limit: usize) -> Result<Option<Values>, Error> {
    inspect::values(&name.parse().unwrap(), limit)
}

/// Returns the paths and the values, as they are displayed.
fn shown(name: &TestName) -> Vec<String> {
    let values = values(name, 1000).unwrap().unwrap();
    assert!(!values.is_cut, "{values:?}");
    let fields = values.fields.iter();
    fields
        .map(|field| format!("{} = {}", field.path, field.value))
        .collect()
}

#[track_caller]
fn assert_refused(name: &TestName) {
    let address = name.parse().unwrap();
    for error in [inspect::types(&address).err(), values(name, 9).err()] {
        match error {
            Some(Error::Corrupt {
                reason: CorruptHeader::UnreadableTypeTable,
                ..
            }) => {}
            other => panic!("{other:?}"),
        }
    }
    // The rest of the segment is readable, and an opener gets its usual error.
    assert!(
        inspect::details(&address, 9)
            .unwrap()
            .object
            .content
            .segment()
            .is_some()
    );
    let opened = Segment::<ShmMutex<u32>>::open(name);
    assert!(
        matches!(opened, Err(Error::LayoutMismatch { field: None, .. })),
        "{opened:?}"
    );
}

/// Returns the difference from a type of this program.
fn mismatch<T: shm_sync::ShmSafe>(name: &TestName) -> FieldMismatch {
    match Segment::<T>::open(name) {
        Err(Error::LayoutMismatch {
            field: Some(field), ..
        }) => *field,
        other => panic!("{other:?}"),
    }
}

on_stage! {
    fn smoke() {
        let mut table = TypeTable::default();
        let byte = table.add("u8", 1, 1, &[]);
        let word = table.add("u32", 4, 4, &[]);
        assert_eq!(byte, <u8 as shm_sync::ShmSafe>::FINGERPRINT.to_bits());
        table.add("tuple", 8, 4, &[("0", 4, byte), ("1", 0, word)]);
        let name = table.create(&[1, 2, 0, 0, 7, 0, 0, 0], 4);
        assert_eq!(shown(&name), [".0 = 7", ".1 = 513"]);
    }

    fn faults_are_refused() {
        // A reference to a type that comes later, or never.
        let mut table = TypeTable::default();
        table.add("struct", 1, 1, &[("a", 0, 7)]);
        assert_refused(&table.create(&[0], 1));
        // A field outside its type.
        let mut table = TypeTable::default();
        let byte = table.add("u8", 1, 1, &[]);
        table.add("struct", 1, 1, &[("a", 1, byte)]);
        assert_refused(&table.create(&[0], 1));
        // Deeper than the limit.
        let mut table = TypeTable::default();
        let mut of = table.add("u8", 1, 1, &[]);
        for _ in 0..200 {
            of = table.add("struct", 1, 1, &[("a", 0, of)]);
        }
        assert_refused(&table.create(&[0], 1));
        // A table that ends in the middle of an entry.
        let mut table = TypeTable::default();
        table.add("u8", 1, 1, &[]);
        let name = table.create(&[0], 1);
        let mut bytes = std::fs::read(name.path()).unwrap();
        bytes[100] -= 8;
        name.write(&bytes);
        assert_refused(&name);
    }

    fn exponential_types_are_cut() {
        // 2^150 fields without bytes, and as many values in one byte.
        for (kind, size) in [("()", 0), ("u8", 1)] {
            let mut table = TypeTable::default();
            let mut of = table.add(kind, size, 1, &[]);
            for _ in 0..150 {
                of = table.add("struct", size, 1, &[("a", 0, of), ("b", 0, of)]);
            }
            let name = table.create(&[3], 1);
            let all = inspect::types(&name.parse().unwrap()).unwrap().unwrap();
            assert_eq!(all.all().len(), 151);
            let values = values(&name, 10).unwrap().unwrap();
            assert!(values.is_cut && values.fields.len() <= 10, "{values:?}");
            assert_eq!(values.fields.len(), if size == 0 { 0 } else { 10 });
            let found = mismatch::<(u8, u16)>(&name);
            assert_eq!(found.path, "", "{found}");
        }
        // Arrays of arrays, and the longest one.
        let mut table = TypeTable::default();
        let mut of = table.add("()", 0, 1, &[]);
        for _ in 0..150 {
            of = table.add("array", 0, 1, &[("0", u64::MAX, of)]);
        }
        let name = table.create(&[], 1);
        assert!(values(&name, 10).unwrap().unwrap().is_cut);
    }

    fn values_outside_of_their_types_are_invalid() {
        let mut table = TypeTable::default();
        let byte = table.add("u8", 1, 1, &[]);
        let word = table.add("u32", 4, 4, &[]);
        let flag = table.add("bool", 1, 1, &[]);
        let letter = table.add("char", 4, 4, &[]);
        let bytes = table.add("array", 4, 1, &[("0", 4, byte)]);
        let text = table.add("ShmString", 8, 4, &[("len", 0, word), ("bytes", 4, bytes)]);
        let list = table.add("ShmVec", 8, 4, &[("len", 0, word), ("elements", 4, bytes)]);
        let choice = table.add_enum(
            "enum",
            1,
            1,
            &[("u8", 0, byte)],
            &[("A", 3, &[]), ("A", 4, &[]), ("\u{1b}[2J", 5, &[])],
        );
        let fields = [
            ("flag", 0, flag),
            ("choice", 1, choice),
            ("evil", 2, choice),
            ("letter", 4, letter),
            ("text", 8, text),
            ("list", 16, list),
            ("good", 24, text),
        ];
        table.add("struct", 32, 4, &fields);
        let mut value = [0xff; 32];
        value[2] = 5;
        value[24..].copy_from_slice(&[3, 0, 0, 0, b'a', 0x1b, 0xff, 0]);
        let name = table.create(&value, 4);
        assert_eq!(
            shown(&name),
            [
                ".flag = invalid",
                ".choice = invalid",
                ".evil = \\u{1b}[2J",
                ".letter = invalid",
                ".text = invalid",
                ".list = invalid",
                ".good = \"a\\u{1b}\u{fffd}\"",
            ]
        );
        let read = values(&name, 1000).unwrap().unwrap();
        assert_eq!(read.fields[2].value, Value::Variant("\x1b[2J".to_owned()));
    }

    fn kinds_with_other_parts_are_read_as_they_are() {
        let mut table = TypeTable::default();
        let byte = table.add("u8", 1, 1, &[]);
        // Kinds of this crate with other fields, sizes and alignments.
        let kinds = ["ShmString", "ShmVec", "ShmOption", "ShmOnceLock", "Published", "ShmRwLock",
            "ShmMutex", "NonZero", "CachePadded", "f64", "AtomicU64", "ShmCondvar", "with tail"];
        let mut fields = Vec::new();
        for (number, kind) in kinds.iter().enumerate() {
            for parts in [&[][..], &[("x", 0, byte)], &[("x", 0, byte), ("y", 0, byte)]] {
                let of = table.add(kind, 1, 1, parts);
                fields.push((*kind, number as u64, of));
            }
        }
        table.add("struct", 64, 1, &fields);
        let name = table.create(&[1; 64], 1);
        let values = values(&name, 1000).unwrap().unwrap();
        assert!(!values.is_cut && !values.fields.is_empty(), "{values:?}");
    }

    fn differences_have_short_and_escaped_names() {
        let mut table = TypeTable::default();
        let byte = table.add("u8", 1, 1, &[]);
        let long = "\u{1b}[2J".repeat(100_000);
        table.add("struct", 1, 1, &[(&long, 0, byte)]);
        let name = table.create(&[0], 1);
        let found = mismatch::<Named>(&name);
        let text = found.to_string();
        assert!(text.starts_with("field `.a`: expected u8 at offset 0, found `\\u{1b}[2J"), "{text}");
        assert!(text.len() < 5000 && !text.contains('\x1b'), "{text}");
    }

    fn large_tables_are_read() {
        let mut table = TypeTable::default();
        let byte = table.add("u8", 1, 1, &[]);
        let mut fields = Vec::new();
        for number in 0..20_000_u64 {
            let of = table.add("struct", 1, 1, &[(&number.to_string(), 0, byte)]);
            fields.push(("a", 0, of));
        }
        table.add("struct", 1, 1, &fields);
        let name = table.create(&[9], 1);
        let values = values(&name, 30_000).unwrap().unwrap();
        assert_eq!(values.fields.len(), 20_000);
        let found = mismatch::<Named>(&name).to_string();
        assert_eq!(found, "field `.a`: expected u8 at offset 0, found struct at offset 0");
    }

    fn long_paths_are_shortened() {
        let mut table = TypeTable::default();
        let mut of = table.add("u8", 1, 1, &[]);
        for depth in 0..198 {
            let (long, other) = ("ż".repeat(100), "m".repeat(200));
            let fields = [(long.as_str(), 0, of), (other.as_str(), 0, of)];
            of = table.add("struct", 1, 1, &fields[..if depth < 17 { 2 } else { 1 }]);
        }
        let name = table.create(&[1], 1);
        for (limit, most) in [(1000, 2 << 20), (100_000, 16 << 20)] {
            let values = values(&name, limit).unwrap().unwrap();
            assert!(values.is_cut && !values.fields.is_empty(), "limit {limit}");
            let lengths = values.fields.iter().map(|field| field.path.len());
            assert!(lengths.clone().max() < Some(1028), "limit {limit}");
            let sum: usize = lengths.sum();
            assert!(sum <= most, "limit {limit}: {sum}");
            assert!(values.fields[0].path.ends_with('…'), "limit {limit}");
        }
    }

    fn equal_types_of_two_segments_are_equal() {
        let mut table = TypeTable::default();
        let byte = table.add("u8", 1, 1, &[]);
        table.add("struct", 1, 1, &[("a", 0, byte)]);
        let one = table.create(&[1], 1);
        let mut table = TypeTable::default();
        let word = table.add("u16", 2, 2, &[]);
        let byte = table.add("u8", 1, 1, &[]);
        let inner = table.add("struct", 1, 1, &[("a", 0, byte)]);
        table.add("tuple", 4, 2, &[("0", 0, word), ("1", 2, inner)]);
        let other = table.create(&[0; 4], 2);
        let types = [&one, &other].map(|name| inspect::types(&name.parse().unwrap()).unwrap().unwrap());
        let found = types[1].all().iter().find(|of| of.kind == "struct").unwrap();
        assert_eq!(types[0].root().fields, found.fields, "the fields of one type");
        let mut all = std::collections::HashSet::new();
        all.insert(&types[0].root().fields[0]);
        assert!(all.contains(&found.fields[0]), "they have one hash");
    }
}

#[derive(shm_sync::ShmSafe)]
#[repr(C)]
struct Named {
    a: u8,
}
