//! A lock that needs no parameter to be seen is seen at once.

use shm_sync::{ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(u8)]
enum State<T> {
    Idle(T),
    Busy(ShmMutex<u32>),
}

fn main() {}
