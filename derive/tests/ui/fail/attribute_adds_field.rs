//! The derive macro has seen fewer fields than there are.

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
