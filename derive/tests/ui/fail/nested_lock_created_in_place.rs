//! What is made in place never passes through `ShmMutex::new`.

use shm_sync::{Segment, ShmMutex};

type Nested = ShmMutex<ShmMutex<u32>>;

fn main() -> Result<(), shm_sync::Error> {
    let _nested = Segment::<Nested>::create_in_place("/nested", |_| {})?;
    Ok(())
}
