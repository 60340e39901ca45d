//! A destructor runs in one process while the others still use the value.

use shm_sync::ShmSafe;

struct Handle(u32);

impl Drop for Handle {
    fn drop(&mut self) {}
}

#[derive(ShmSafe)]
#[repr(C)]
struct Job {
    id: u32,
    handle: Handle,
}

fn main() {}
