//! Other processes load the code at another address.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
struct Job {
    id: u32,
    run: fn(u32) -> u32,
}

fn main() {}
