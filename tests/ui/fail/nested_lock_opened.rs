//! A program that only opens a segment creates no value.

use shm_sync::{Segment, ShmMutex};

type Nested = ShmMutex<ShmMutex<u32>>;

fn main() -> Result<(), shm_sync::Error> {
    let _nested = Segment::<Nested>::open("/nested")?;
    Ok(())
}
