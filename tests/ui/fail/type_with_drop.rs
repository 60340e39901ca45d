//! A destructor runs in one process while the others still use the value.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
struct Handle {
    id: u32,
}

impl Drop for Handle {
    fn drop(&mut self) {}
}

fn main() {}
