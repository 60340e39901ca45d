//! A guard borrows from the mapping.

use shm_sync::{Segment, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let counter = Segment::anonymous(ShmMutex::new(0_u32))?;
    let guard = counter.lock()?;
    drop(counter);
    drop(guard);
    Ok(())
}
