//! A mutex does not make its data safe to share.

use shm_sync::{ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(C)]
struct Job {
    id: u32,
    name: ShmMutex<String>,
}

fn main() {}
