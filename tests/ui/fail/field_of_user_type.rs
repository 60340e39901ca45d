//! A user's type must be `ShmSafe` as well.

use shm_sync::ShmSafe;

struct Inner {
    x: u32,
}

#[derive(ShmSafe)]
#[repr(C)]
struct Outer {
    before: u8,
    inner: Inner,
    after: u8,
}

fn main() {}
