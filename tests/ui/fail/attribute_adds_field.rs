//! The attribute below the derive adds a field that the macro has not seen.

use shm_sync::ShmSafe;
use shm_sync_test_attributes::replace;

#[derive(ShmSafe)]
#[replace(size => name: &'static str, size)]
#[repr(C)]
struct Job {
    id: u32,
    size: u64,
}

fn main() {}
