//! A union does not record which of its fields is valid.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
union Word {
    number: u32,
    bytes: [u8; 4],
}

fn main() {}
