//! The head is checked like the tail.

use shm_sync::{Segment, ShmMutex, WithTail};

type Nested = ShmMutex<ShmMutex<u32>>;

fn main() -> Result<(), shm_sync::Error> {
    let _nested = Segment::<WithTail<Nested, [u64]>>::open("/nested")?;
    Ok(())
}
