//! Any bytes are an object that the tool can show, or a typed error.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut bytes = input.to_vec();
    // As long as it claims to be: or else little gets past that.
    let len = bytes.len() as u64;
    if let Some(claimed) = bytes.get_mut(24..32) {
        claimed.copy_from_slice(&len.to_le_bytes());
    }
    shm_sync::fuzzing::object(input);
    shm_sync::fuzzing::object(&bytes);
});
