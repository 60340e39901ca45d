//! The data of a mutex is in shared memory as well.

use shm_sync::ShmMutex;

fn main() {
    let _list = ShmMutex::new(vec![1_u32]);
}
