//! Without a repr, nobody knows how large the discriminant is.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
enum State {
    Idle,
    Busy,
}

fn main() {}
