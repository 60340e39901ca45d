//! What is made in place is zero at first, so zero must be a value.

use std::num::NonZero;

use shm_sync::{Segment, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let _id = Segment::<ShmMutex<NonZero<u64>>>::create_in_place("/id", |_| {})?;
    Ok(())
}
