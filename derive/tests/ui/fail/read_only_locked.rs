//! A lock in memory that can't be written to can't be taken.

use shm_sync::{Segment, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let counter = Segment::<ShmMutex<u64>>::open_read_only("/counter")?;
    *counter.view().lock()? += 1;
    Ok(())
}
