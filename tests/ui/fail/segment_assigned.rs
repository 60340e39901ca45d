//! A segment gives only shared references: a lock in use cannot be replaced.

use shm_sync::{Segment, ShmMutex};

fn replace(counter: &mut Segment<ShmMutex<u32>>) {
    **counter = ShmMutex::new(1);
}

fn main() {}
