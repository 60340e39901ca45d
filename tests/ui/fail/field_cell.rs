//! A `Cell` is for one thread only.

use std::cell::Cell;

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
struct Counter {
    id: u32,
    count: Cell<u32>,
}

fn main() {}
