//! A field that is never `ShmSafe`, whatever the parameter is.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
struct List<T> {
    len: u32,
    items: Vec<T>,
}

fn main() {}
