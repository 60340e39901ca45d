//! What is made in place is zero at first, so zero must be a value.

use std::num::NonZero;

use shm_sync::{SegmentOptions, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let _id = SegmentOptions::new().create_in_place::<ShmMutex<NonZero<u64>>>("/id", |_| {})?;
    Ok(())
}
