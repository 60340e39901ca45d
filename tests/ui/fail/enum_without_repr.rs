//! Without a repr, the size of the discriminant is not fixed.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
enum State {
    Idle,
    Busy,
}

fn main() {}
