//! A vector points into the heap of one process.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
struct Job {
    id: u32,
    input: Vec<u8>,
}

fn main() {}
