//! A box points into the heap of one process.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
struct Job {
    id: u32,
    input: Box<u32>,
}

fn main() {}
