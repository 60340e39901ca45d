//! The kernel ends the access of the thread that ends.

use shm_sync::{Segment, ShmRwLock};

fn main() -> Result<(), shm_sync::Error> {
    let lock = Segment::anonymous(ShmRwLock::<u64, 2>::new(0))?;
    let guard = lock.read()?;
    std::thread::scope(|s| {
        s.spawn(|| drop(guard));
    });
    Ok(())
}
