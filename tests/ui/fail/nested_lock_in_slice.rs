//! The elements of a slice are created in place.

use shm_sync::{SegmentOptions, ShmMutex};

type Nested = ShmMutex<ShmMutex<u32>>;

fn main() -> Result<(), shm_sync::Error> {
    let _nested = SegmentOptions::<[Nested]>::new().create_with_len("/nested", 3, |_| {})?;
    Ok(())
}
