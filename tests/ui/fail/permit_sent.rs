//! The kernel frees the permits of the thread that ends.

use shm_sync::{Segment, ShmSemaphore};

fn main() -> Result<(), shm_sync::Error> {
    let semaphore = Segment::anonymous(ShmSemaphore::<2>::new())?;
    let permit = semaphore.acquire()?;
    std::thread::scope(|s| {
        s.spawn(|| drop(permit));
    });
    Ok(())
}
