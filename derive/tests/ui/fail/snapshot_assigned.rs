//! The locks in a snapshot never move.

use shm_sync::{SegmentOptions, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let mut copy = SegmentOptions::new().open_snapshot::<ShmMutex<u64>>("/counter")?;
    *copy = ShmMutex::new(1);
    Ok(())
}
