//! An address is valid in one process only.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
struct List {
    first: *const u32,
    last: *mut u32,
    len: u32,
}

fn main() {}
