//! A value created in place never passes through `ShmMutex::new`.

use shm_sync::{SegmentOptions, ShmMutex};

type Nested = ShmMutex<ShmMutex<u32>>;

fn main() -> Result<(), shm_sync::Error> {
    let _nested = SegmentOptions::<Nested>::new().create_in_place("/nested", |_| {})?;
    Ok(())
}
