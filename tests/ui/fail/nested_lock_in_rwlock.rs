//! A write guard gives `&mut` access, which could move a lock in use.

use shm_sync::{ShmMutex, ShmRwLock};

fn main() {
    let _nested: ShmRwLock<ShmMutex<u32>> = ShmRwLock::new(ShmMutex::new(0_u32));
}
