//! Any bytes parse to a lock table whose objects are inside the value, or give a typed
//! error.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: (u64, &[u8])| {
    let (value_size, bytes) = input;
    // The end of the input is the path to find.
    let (_, end) = bytes.split_at(bytes.len().saturating_sub(32));
    let path = String::from_utf8_lossy(end);
    shm_sync::fuzzing::lock_table(bytes, value_size, &path);
});
