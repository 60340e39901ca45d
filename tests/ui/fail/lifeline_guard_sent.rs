//! The lifeline tells when the thread that holds it ends.

use shm_sync::{Segment, ShmLifeline};

fn main() -> Result<(), shm_sync::Error> {
    let worker = Segment::anonymous(ShmLifeline::new())?;
    let guard = worker.hold()?;
    std::thread::scope(|s| {
        s.spawn(|| drop(guard));
    });
    Ok(())
}
