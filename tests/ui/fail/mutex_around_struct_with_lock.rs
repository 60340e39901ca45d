//! A guard gives `&mut` access, which could move a lock in use.

use shm_sync::{ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(C)]
struct Inner {
    id: u32,
    locks: [ShmMutex<u32>; 2],
}

fn main() {
    let _nested = ShmMutex::new(Inner {
        id: 1,
        locks: [ShmMutex::new(0), ShmMutex::new(0)],
    });
}
