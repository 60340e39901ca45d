//! With `repr(C)` alone, the size of an enum depends on the platform's C compiler.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
enum State {
    Idle,
    Busy,
}

fn main() {}
