//! A condition variable must be beside its mutex, not inside.

use shm_sync::{ShmCondvar, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(C)]
struct Jobs {
    pending: u64,
    changed: ShmCondvar,
}

fn main() {
    let _jobs = ShmMutex::new(Jobs {
        pending: 0,
        changed: ShmCondvar::new(),
    });
}
