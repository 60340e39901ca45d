//! An alignment alone does not fix the order of the fields.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(align(64))]
struct Point {
    x: u32,
    y: u32,
}

fn main() {}
