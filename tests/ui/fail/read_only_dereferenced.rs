//! A view of read-only memory is not a reference to its value.

use shm_sync::{Segment, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let counter = Segment::<ShmMutex<u64>>::open_read_only("/counter")?;
    let value: &ShmMutex<u64> = &counter;
    let viewed: &ShmMutex<u64> = &counter.view();
    Ok(())
}
