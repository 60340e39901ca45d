//! The fields of a packed struct may be misaligned.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C, packed)]
struct Tight {
    tag: u8,
    count: u64,
}

#[derive(ShmSafe)]
#[repr(C, packed(2))]
struct AlmostTight {
    tag: u8,
    count: u64,
}

fn main() {}
