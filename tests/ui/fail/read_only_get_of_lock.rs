//! A reference would permit to lock, so `get` refuses mutable types.

use shm_sync::{Segment, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let counter = Segment::<[ShmMutex<u64>; 2]>::open_read_only("/counters")?;
    let _ = counter.view().get();
    Ok(())
}
