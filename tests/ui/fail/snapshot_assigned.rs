//! The locks in a snapshot never move.

use shm_sync::{SegmentOptions, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let mut copy = SegmentOptions::<ShmMutex<u64>>::new().open_snapshot("/counter")?;
    *copy = ShmMutex::new(1);
    Ok(())
}
