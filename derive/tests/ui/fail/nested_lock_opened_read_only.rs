//! A program that only looks makes no value and takes no lock.

use shm_sync::{Segment, ShmMutex};

type Nested = ShmMutex<ShmMutex<u32>>;

fn main() -> Result<(), shm_sync::Error> {
    let _nested = Segment::<Nested>::open_read_only("/nested")?;
    Ok(())
}
