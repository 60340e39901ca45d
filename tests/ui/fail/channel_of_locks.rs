//! A message is copied, and a lock must not be.

use shm_sync::{ShmChannel, ShmMutex};

fn main() {
    let _nested = ShmChannel::<ShmMutex<u8>, 2>::new();
}
