//! Any bytes parse to a header whose claims hold, or give a typed error.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: (u64, &[u8])| {
    let (object_len, bytes) = input;
    // Few inputs have the length that they claim, so the claimed length is tried as
    // well.
    let claimed = bytes
        .get(24..32)
        .map(|len| u64::from_le_bytes(len.try_into().unwrap()));
    for len in [Some(object_len), claimed].into_iter().flatten() {
        shm_sync::fuzzing::header(bytes, len);
    }
});
