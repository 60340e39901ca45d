//! The kernel closes the endpoints of the thread that ends.

use shm_sync::{Segment, ShmChannel};

fn main() -> Result<(), shm_sync::Error> {
    let channel = Segment::anonymous(ShmChannel::<u64, 4>::new())?;
    let receiver = channel.receiver()?;
    std::thread::scope(|s| {
        s.spawn(move || drop(receiver));
    });
    Ok(())
}
