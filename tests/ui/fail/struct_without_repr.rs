//! Without a repr, each build may have another order of the fields.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
struct Point {
    x: u32,
    y: u32,
}

fn main() {}
