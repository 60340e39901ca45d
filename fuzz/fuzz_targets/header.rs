//! Any bytes are a header whose claims hold, or a typed error.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: (u64, &[u8])| {
    let (object_len, bytes) = input;
    // As long as it claims to be, half the time: or else little gets past that.
    let claimed = bytes
        .get(24..32)
        .map(|len| u64::from_le_bytes(len.try_into().unwrap()));
    for len in [Some(object_len), claimed].into_iter().flatten() {
        shm_sync::fuzzing::header(bytes, len);
    }
});
