//! Entry points of the fuzzer: objects with any bytes.

mod system_v;

use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;

use super::reader::{Opened, Source};
use super::types::Epoch;
use super::{locks, values};
use crate::error::{Abi, Layout};
use crate::os::mem::Pages;
use crate::os::{mem::memfd, regular_file};
use crate::printable::is_printable;
use crate::segment::Removal;
use crate::segment::internals::{Epoch as SegmentEpoch, HEADER_LEN, Header, parse_type_table};
use crate::shm_safe::{Fingerprint, fingerprint_of};

pub use system_v::{Choices, system_v};

/// Reads an object with these bytes as the tool does: header, lock table, and every
/// lock.
///
/// # Panics
///
/// If the numbers contradict each other.
pub fn object(bytes: &[u8]) {
    let Some(len) = NonZeroUsize::new(bytes.len()) else {
        return;
    };
    let file = memfd::create("shm-sync-fuzz", Pages::Normal).unwrap();
    regular_file::set_len(&file, len).unwrap();
    let file = std::fs::File::from(file);
    file.write_all_at(bytes, 0).unwrap();
    let Ok(opened) = Opened::new(Source::File(file.into()), bytes.len() as u64) else {
        return;
    };
    let sum = locks::count(&opened, Epoch::Past);
    assert!(sum.counted <= sum.objects);
    assert!(sum.held + sum.dead <= sum.counted && sum.stopped <= sum.held);
    let (listed, omitted) = locks::list(&opened, Epoch::Past, 10);
    assert!(listed.len() as u64 <= sum.objects);
    assert!(omitted <= sum.objects);
    for object in listed {
        let _ = locks::find(&opened, Epoch::Past, &object.path);
    }
    check_values(&opened);
}

/// Reads a value by a type table, as the tool does. The references and the hashes in
/// the table are corrected, because no fuzzer finds good ones.
///
/// # Panics
///
/// If the table describes types that can't exist, or if a reader exceeds its limits.
pub fn type_table(words: &[u64], value: &[u8], elements: u64) {
    let (table, root) = corrected(words);
    let Ok(types) = parse_type_table(&table, root) else {
        return;
    };
    for (number, of) in types.all().iter().enumerate() {
        assert!(of.align.is_power_of_two());
        let in_variants = of.variants.iter().flat_map(|variant| &variant.fields);
        for field in of.fields.iter().chain(in_variants) {
            let inner = types.type_of(field).expect("references are resolved");
            assert!(types.all()[..number].contains(inner));
            if !matches!(of.kind.as_str(), "array" | "slice") && !of.is_variable() {
                assert!(field.offset + inner.size <= of.size);
            }
        }
    }
    let value_offset = (HEADER_LEN + table.len()) as u64;
    let header = Header {
        removal: Removal::Persistent,
        pid_namespace: 1,
        creator: 1,
        created: 0,
        total_len: value_offset + value.len() as u64,
        value_offset,
        len: elements,
        lock_table_len: 0,
        type_table_len: table.len() as u32,
        epoch: SegmentEpoch::ANONYMOUS,
        layout: Layout {
            type_name: String::new(),
            fingerprint: root,
            size: value.len() as u64,
            align: 1,
            abi: Abi {
                libc: 1,
                endianness: 1 + (elements % 2) as u8,
                pointer_width: 8,
                pthread_mutex: 40,
                pthread_cond: 48,
            },
        },
    };
    let bytes = [&header.to_bytes()[..], &table, value].concat();
    let file = std::fs::File::from(memfd::create("shm-sync-fuzz", Pages::Normal).unwrap());
    file.write_all_at(&bytes, 0).unwrap();
    let opened = Opened::new(Source::File(file.into()), bytes.len() as u64).unwrap();
    check_values(&opened);
}

fn check_values(opened: &Opened) {
    const LIMIT: usize = 100;
    if let Ok(Some(found)) = values::read(opened, LIMIT) {
        assert!(found.fields.len() <= LIMIT);
        for field in found.fields {
            let shown = field.value.to_string();
            assert!(shown.chars().all(is_printable), "{shown:?}");
        }
    }
}

/// Returns a type table, and the fingerprint of its last type. Each entry is a number
/// of words, and these words.
fn corrected(words: &[u64]) -> (Vec<u8>, Fingerprint) {
    let mut known: Vec<u128> = Vec::new();
    let mut all = Vec::new();
    let mut rest = words;
    while let Some((len, after)) = rest.split_first() {
        let len = (*len % 64).min(after.len() as u64) as usize;
        let mut message = after[..len].to_vec();
        rest = &after[len..];
        correct(&mut message, &known);
        let fingerprint = fingerprint_of(message.iter().copied()).to_bits();
        known.push(fingerprint);
        all.extend([fingerprint as u64, (fingerprint >> 64) as u64, len as u64]);
        all.extend(message);
    }
    let root = known.last().copied().unwrap_or(0);
    let bytes = all.into_iter().flat_map(u64::to_le_bytes).collect();
    (bytes, Fingerprint::from_bits(root))
}

/// Makes the references in a message those to types that come before it.
fn correct(message: &mut [u64], known: &[u128]) {
    let mut at = 0;
    let text_end = |message: &[u64], at: usize| {
        let len = message.get(at).copied().unwrap_or(0) >> 8;
        at + 1 + len.div_ceil(8).min(64) as usize
    };
    let fields = |message: &mut [u64], mut at: usize, count: u64| {
        for _ in 0..count.min(64) {
            at = text_end(message, at) + 1;
            let (Some(reference), false) = (message.get_mut(at..at + 2), known.is_empty()) else {
                return at;
            };
            let of = known[(reference[0] % known.len() as u64) as usize];
            reference.copy_from_slice(&[of as u64, (of >> 64) as u64]);
            at += 2;
        }
        at
    };
    at = text_end(message, at);
    let counts = [at + 2, at + 3].map(|at| message.get(at).copied().unwrap_or(0));
    at = fields(message, at + 4, counts[0]);
    for _ in 0..counts[1].min(64) {
        at = text_end(message, at) + 3;
        let count = message.get(at - 1).copied().unwrap_or(0);
        at = fields(message, at, count);
    }
}
