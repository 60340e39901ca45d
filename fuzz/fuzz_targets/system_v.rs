//! Any bytes are a System V segment that the tool can show and remove, and that can be
//! opened for reading, or give a typed error at once.
//!
//! The first four bytes of an input are choices, the others are the segment.

#![no_main]

use std::os::unix::fs::MetadataExt;

use shm_sync::fuzzing::{Choices, system_v};

// Offsets in a header: `src/segment/format/offsets.rs`; in the state of a System V
// segment: `src/segment/backing/sysv/state.rs`.
const PID_NAMESPACE: usize = 20;
const LEN: usize = 24;
const STATE: usize = 192;
const LOCK: usize = 200;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some(([mode, flags, state, lock], bytes)) = input.split_first_chunk::<4>() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    let mut put = |at: usize, part: &[u8]| {
        if let Some(bytes) = bytes.get_mut(at..at + part.len()) {
            bytes.copy_from_slice(part);
        }
    };
    let is_set = |flag: u8| flags >> flag & 1 == 1;
    // The fuzzer cannot guess the length and the pid namespace. A wrong one ends the
    // check early.
    if is_set(3) {
        put(LEN, &(input.len() as u64 - 4).to_le_bytes());
    }
    if is_set(4) {
        let namespace = std::fs::metadata("/proc/self/ns/pid").unwrap().ino();
        put(PID_NAMESPACE, &(namespace as u32).to_le_bytes());
    }
    match state {
        // Each state, and one invalid value.
        0..=7 => put(STATE, &u32::from(*state).to_ne_bytes()),
        _ => {}
    }
    match lock {
        0 => put(LOCK, &0_u32.to_ne_bytes()),
        // Held by this thread: libFuzzer calls the target on the main thread.
        1 => put(LOCK, &std::process::id().to_ne_bytes()),
        // Held by a thread that does not exist, and by one that died.
        2 => put(LOCK, &0x3fff_ffff_u32.to_ne_bytes()),
        3 => put(LOCK, &0x7fff_ffff_u32.to_ne_bytes()),
        _ => {}
    }
    let choices = Choices {
        mode: u32::from(*mode) | u32::from(flags & 1) << 8,
        is_given_away: is_set(1),
        is_attached: is_set(2),
    };
    system_v(&bytes, choices);
});
