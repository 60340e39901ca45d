//! An address is valid in one process only.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
struct Greeting {
    times: u32,
    text: &'static str,
}

fn main() {}
