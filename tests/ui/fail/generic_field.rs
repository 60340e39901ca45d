//! The field is not `ShmSafe` for any parameter.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
struct List<T> {
    len: u32,
    items: Vec<T>,
}

fn main() {}
