//! The usual struct.

use shm_sync::{Segment, ShmSafe};

#[derive(ShmSafe)]
#[repr(C)]
struct Point {
    x: u8,
    y: u32,
}

fn main() -> Result<(), shm_sync::Error> {
    let point = Segment::anonymous(Point { x: 1, y: 2 })?;
    assert_eq!((point.x, point.y), (1, 2));
    Ok(())
}
