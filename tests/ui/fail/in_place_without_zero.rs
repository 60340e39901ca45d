//! Content in place starts as zeros, so zero must be a valid value.

use std::num::NonZero;

use shm_sync::{SegmentOptions, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let _id = SegmentOptions::<ShmMutex<NonZero<u64>>>::new().create_in_place("/id", |_| {})?;
    Ok(())
}
