//! Any bytes are entries that keep inside the value, or a typed error.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: (u64, &[u8])| {
    let (value_size, bytes) = input;
    // A path to look for: whatever the directory ends in.
    let (_, end) = bytes.split_at(bytes.len().saturating_sub(32));
    let path = String::from_utf8_lossy(end);
    shm_sync::fuzzing::lock_table(bytes, value_size, &path);
});
