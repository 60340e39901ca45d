//! A destructor runs in one process, and the others go on using the value.

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
