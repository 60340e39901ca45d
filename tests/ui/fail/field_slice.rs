//! A slice has no fixed size, so no segment can be created for it.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
struct Buffer {
    len: u32,
    bytes: [u8],
}

fn main() {}
