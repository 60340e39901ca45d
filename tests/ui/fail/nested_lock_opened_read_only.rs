//! A program that only reads creates no value and locks nothing.

use shm_sync::{Segment, ShmMutex};

type Nested = ShmMutex<ShmMutex<u32>>;

fn main() -> Result<(), shm_sync::Error> {
    let _nested = Segment::<Nested>::open_read_only("/nested")?;
    Ok(())
}
