//! A number is not the address of a segment.

use shm_sync::{Segment, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let _opened = Segment::<ShmMutex<u64>>::open(42)?;
    Ok(())
}
