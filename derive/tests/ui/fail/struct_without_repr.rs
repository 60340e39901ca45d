//! Without a repr, every build may lay the fields out differently.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
struct Point {
    x: u32,
    y: u32,
}

fn main() {}
