//! `repr(C)` gives an enum whatever size the platform's C compiler likes.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
enum State {
    Idle,
    Busy,
}

fn main() {}
