//! The kernel tells the members of the thread that ends.

use shm_sync::{Segment, ShmBarrier};

fn main() -> Result<(), shm_sync::Error> {
    let barrier = Segment::anonymous(ShmBarrier::<2>::new())?;
    let member = barrier.join()?;
    std::thread::scope(|s| {
        s.spawn(move || drop(member));
    });
    Ok(())
}
