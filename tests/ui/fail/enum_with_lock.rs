//! Writing another variant would overwrite a lock in use.

use shm_sync::{PthreadCondvar, ShmCondvar, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(u8)]
enum State {
    Idle,
    Busy(ShmMutex<u32>),
    Changing(u8, ShmCondvar),
    Waiting { at: [PthreadCondvar; 2], id: u32 },
}

fn main() {}
