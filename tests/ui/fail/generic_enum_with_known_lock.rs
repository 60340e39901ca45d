//! A lock that does not depend on a parameter is refused in the definition.

use shm_sync::{ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(u8)]
enum State<T> {
    Idle(T),
    Busy(ShmMutex<u32>),
}

fn main() {}
