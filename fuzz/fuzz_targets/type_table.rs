//! Any type table is refused, or describes types that could exist. A value is read by
//! it within the limits.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    // The number of elements, the number of words of the table, the table, the value.
    let Some((head, rest)) = input.split_first_chunk::<16>() else {
        return;
    };
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let elements = number(&head[..8]);
    let len = number(&head[8..])
        .saturating_mul(8)
        .min(rest.len() as u64 / 8 * 8);
    let (table, value) = rest.split_at(len as usize);
    let words: Vec<u64> = table.chunks_exact(8).map(number).collect();
    shm_sync::fuzzing::type_table(&words, value, elements);
});
