//! pthread wants the thread that locked to unlock.

use shm_sync::{Segment, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let counter = Segment::anonymous(ShmMutex::new(0_u32))?;
    let guard = counter.lock()?;
    std::thread::scope(|s| {
        s.spawn(|| drop(guard));
    });
    Ok(())
}
