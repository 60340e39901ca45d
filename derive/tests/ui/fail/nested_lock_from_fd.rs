//! A descriptor brings a value that another process made.

use shm_sync::{Segment, ShmMutex};

type Nested = ShmMutex<ShmMutex<u32>>;

fn main() -> Result<(), shm_sync::Error> {
    let file = std::fs::File::open("/dev/null").expect("it is there");
    let _nested = Segment::<Nested>::from_fd(file.into())?;
    Ok(())
}
