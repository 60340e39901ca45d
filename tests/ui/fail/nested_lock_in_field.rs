//! A field of a field is checked, too.

use shm_sync::{Segment, ShmCondvar, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(C)]
struct Jobs {
    all: [(u32, ShmMutex<Inner>); 2],
}

#[derive(ShmSafe)]
#[repr(C)]
struct Inner {
    changed: ShmCondvar,
}

fn main() -> Result<(), shm_sync::Error> {
    let _jobs = Segment::<Jobs>::open_read_only("/jobs")?;
    Ok(())
}
