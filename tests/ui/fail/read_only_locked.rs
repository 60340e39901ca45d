//! A lock in read-only memory cannot be locked.

use shm_sync::{Segment, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let counter = Segment::<ShmMutex<u64>>::open_read_only("/counter")?;
    *counter.view().lock()? += 1;
    Ok(())
}
