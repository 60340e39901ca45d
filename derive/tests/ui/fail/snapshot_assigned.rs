//! A value in a snapshot never moves.

use shm_sync::{Segment, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let mut copy = Segment::<ShmMutex<u64>>::snapshot_of("/counter")?;
    *copy = ShmMutex::new(1);
    Ok(())
}
