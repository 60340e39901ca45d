//! Content in place starts as zeros, so zero must be a valid value.

use std::num::NonZero;

use shm_sync::{SegmentOptions, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let _id = SegmentOptions::new().create_in_place::<ShmMutex<NonZero<u64>>>("/id", |_| {})?;
    Ok(())
}
