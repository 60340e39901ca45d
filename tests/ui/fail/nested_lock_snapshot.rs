//! A lock in a snapshot could be moved as well.

use shm_sync::{Segment, ShmMutex};

type Nested = ShmMutex<ShmMutex<u32>>;

fn main() -> Result<(), shm_sync::Error> {
    let _nested = Segment::<Nested>::snapshot_of("/nested")?;
    Ok(())
}
