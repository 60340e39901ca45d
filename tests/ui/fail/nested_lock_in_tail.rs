//! The tail is checked like the head.

use shm_sync::{Segment, ShmMutex, WithTail};

type Nested = ShmMutex<ShmMutex<u32>>;

fn main() -> Result<(), shm_sync::Error> {
    let _nested = Segment::<WithTail<u64, [Nested]>>::open("/nested")?;
    Ok(())
}
