//! Elements that are chosen at creation are made in place.

use shm_sync::{Segment, ShmMutex};

type Nested = ShmMutex<ShmMutex<u32>>;

fn main() -> Result<(), shm_sync::Error> {
    let _nested = Segment::<[Nested]>::create_with_len("/nested", 3, |_| {})?;
    Ok(())
}
