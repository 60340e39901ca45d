//! The one option of the attribute is a path, given once.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[shm_safe(crates = "shm_sync")]
#[repr(C)]
struct Misspelt(u8);

#[derive(ShmSafe)]
#[shm_safe(crate = "not a path")]
#[repr(C)]
struct NoPath(u8);

#[derive(ShmSafe)]
#[shm_safe(crate = "shm_sync", crate = "shm_sync")]
#[repr(C)]
struct Twice(u8);

fn main() {}
