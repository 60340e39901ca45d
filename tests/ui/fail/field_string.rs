//! A string points into the heap of one process. Two of them give two errors.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
struct Job {
    name: String,
    id: u32,
    owner: String,
}

fn main() {}
