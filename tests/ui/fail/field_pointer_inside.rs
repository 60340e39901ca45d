//! A pointer inside arrays and tuples is refused as well.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
struct Table {
    rows: [*const u32; 4],
    first_and_last: (u32, *mut u32),
    nested: [(u8, [&'static u8; 2]); 2],
}

fn main() {}
