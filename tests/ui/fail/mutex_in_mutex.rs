//! A guard gives `&mut` access, which could move a lock in use.

use shm_sync::ShmMutex;

fn main() {
    let _nested = ShmMutex::new(ShmMutex::new(0_u32));
}
