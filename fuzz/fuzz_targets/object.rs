//! Any bytes are an object that the tool can show, or give a typed error.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut bytes = input.to_vec();
    // Few inputs have the length that they claim, so the length is corrected as well.
    let len = bytes.len() as u64;
    if let Some(claimed) = bytes.get_mut(24..32) {
        claimed.copy_from_slice(&len.to_le_bytes());
    }
    shm_sync::fuzzing::object(input);
    shm_sync::fuzzing::object(&bytes);
});
