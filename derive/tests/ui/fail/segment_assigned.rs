//! A segment lends its value out, shared: a live lock can't be replaced.

use shm_sync::{Segment, ShmMutex};

fn replace(counter: &mut Segment<ShmMutex<u32>>) {
    **counter = ShmMutex::new(1);
}

fn main() {}
