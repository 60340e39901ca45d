//! A mapping begins at a page, and a page may be as small as 4096 bytes.

use shm_sync::{Segment, ShmSafe};

#[derive(ShmSafe)]
#[repr(C, align(8192))]
struct Huge {
    byte: u8,
}

fn main() -> Result<(), shm_sync::Error> {
    let _segment = Segment::anonymous(Huge { byte: 1 })?;
    Ok(())
}
