//! A guard gives `&mut` access, by which a live lock could be moved.

use shm_sync::ShmMutex;

fn main() {
    let _nested = ShmMutex::new(ShmMutex::new(0_u32));
}
