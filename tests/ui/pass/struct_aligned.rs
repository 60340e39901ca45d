//! Alignments up to that of a page.

use shm_sync::{Segment, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(C, align(64))]
struct Line {
    count: ShmMutex<u8>,
}

#[derive(ShmSafe)]
#[repr(C)]
#[repr(align(4096))]
struct Page {
    line: Line,
}

fn main() -> Result<(), shm_sync::Error> {
    let page = Segment::anonymous(Page {
        line: Line {
            count: ShmMutex::new(7),
        },
    })?;
    assert_eq!(*page.line.count.lock()?, 7);
    assert_eq!(std::ptr::from_ref(&*page).addr() % 4096, 0);
    Ok(())
}
