//! Segments with any type table, made by the description of the format alone. So a test
//! with them also checks that description.

use std::collections::HashSet;

use shm_sync::{Segment, ShmMutex};

use super::names::TestName;

/// The length of a header in bytes.
const HEADER: usize = 448;
/// The tags of a message.
const TYPE: u64 = 1;
const FIELD: u64 = 2;
const VARIANT: u64 = 3;

/// A field: its name, its offset and the fingerprint of its type.
pub type TestField<'a> = (&'a str, u64, u128);

/// A type table under construction.
#[derive(Debug, Default)]
pub struct TypeTable {
    words: Vec<u64>,
    listed: HashSet<u128>,
    /// The fingerprint of the last type.
    root: u128,
}

impl TypeTable {
    /// Adds a type without variants, and returns its fingerprint.
    pub fn add(&mut self, kind: &str, size: u64, align: u64, fields: &[TestField<'_>]) -> u128 {
        self.add_enum(kind, size, align, fields, &[])
    }

    /// Adds a type unless it is there, and returns its fingerprint.
    pub fn add_enum(
        &mut self,
        kind: &str,
        size: u64,
        align: u64,
        fields: &[TestField<'_>],
        variants: &[(&str, i128, &[TestField<'_>])],
    ) -> u128 {
        let mut message = Vec::new();
        put_text(&mut message, TYPE, kind);
        message.extend([size, align, fields.len() as u64, variants.len() as u64]);
        put_fields(&mut message, fields);
        for (name, discriminant, fields) in variants {
            put_text(&mut message, VARIANT, name);
            let bits = *discriminant as u128;
            message.extend([bits as u64, (bits >> 64) as u64, fields.len() as u64]);
            put_fields(&mut message, fields);
        }
        self.root = sip_hash(&message);
        if !self.listed.insert(self.root) {
            return self.root;
        }
        let fingerprint = [self.root as u64, (self.root >> 64) as u64];
        self.words.extend(fingerprint);
        self.words.push(message.len() as u64);
        self.words.extend(message);
        self.root
    }

    /// Creates a POSIX object with these types, and with this value of the last of
    /// them.
    pub fn create(&self, value: &[u8], align: u64) -> TestName {
        let name = TestName::new("types");
        drop(Segment::create(&name, ShmMutex::new(0_u64)).expect("the name is new"));
        let good = std::fs::read(name.path()).expect("it is there");
        shm_sync::unlink(&name).expect("it is there");
        let table: Vec<u8> = self
            .words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let offset = (HEADER + table.len()).next_multiple_of((align as usize).max(64));
        let mut bytes = good[..HEADER].to_vec();
        let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
        put(24, &((offset + value.len()) as u64).to_le_bytes());
        put(32, &(offset as u64).to_le_bytes());
        put(40, &(value.len() as u64).to_le_bytes());
        put(48, &align.to_le_bytes());
        put(56, &self.root.to_le_bytes());
        put(88, &0_u32.to_le_bytes());
        put(100, &(table.len() as u32).to_le_bytes());
        bytes.extend(table);
        bytes.resize(offset, 0);
        bytes.extend(value);
        name.write(&bytes);
        name
    }
}

fn put_fields(words: &mut Vec<u64>, fields: &[TestField<'_>]) {
    for (name, offset, of) in fields {
        put_text(words, FIELD, name);
        words.extend([*offset, *of as u64, (of >> 64) as u64]);
    }
}

fn put_text(words: &mut Vec<u64>, tag: u64, text: &str) {
    words.push(tag | (text.len() as u64) << 8);
    for part in text.as_bytes().chunks(8) {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        words.push(u64::from_le_bytes(word));
    }
}

/// Returns SipHash-2-4 with 128 bits of little-endian words, with the key of the
/// format.
fn sip_hash(message: &[u64]) -> u128 {
    let [k0, k1] = [*b"shm-sync", *b" layout\0"].map(u64::from_le_bytes);
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let length = (message.len() as u64 * 8) << 56;
    for word in message.iter().chain([&length]) {
        v[3] ^= word;
        rounds(&mut v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xee;
    rounds(&mut v, 4);
    let low = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    rounds(&mut v, 4);
    let high = v[0] ^ v[1] ^ v[2] ^ v[3];
    u128::from(low) | u128::from(high) << 64
}

fn rounds(v: &mut [u64; 4], count: usize) {
    for _ in 0..count {
        v[0] = v[0].wrapping_add(v[1]);
        v[2] = v[2].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(13) ^ v[0];
        v[3] = v[3].rotate_left(16) ^ v[2];
        v[0] = v[0].rotate_left(32);
        v[2] = v[2].wrapping_add(v[1]);
        v[0] = v[0].wrapping_add(v[3]);
        v[1] = v[1].rotate_left(17) ^ v[2];
        v[3] = v[3].rotate_left(21) ^ v[0];
        v[2] = v[2].rotate_left(32);
    }
}
