//! A reference to the type that the macro has seen coerces to that type.

use shm_sync::ShmSafe;
use shm_sync_test_attributes::replace;

#[derive(ShmSafe)]
#[replace(u64 => &'static u64)]
#[repr(C)]
struct Job {
    id: u32,
    size: u64,
}

fn main() {}
