//! A descriptor refers to a value that another process created.

use shm_sync::{SegmentOptions, ShmMutex};

type Nested = ShmMutex<ShmMutex<u32>>;

fn main() -> Result<(), shm_sync::Error> {
    let file = std::fs::File::open("/dev/null").expect("it is there");
    let _nested = SegmentOptions::<Nested>::new().from_fd(file.into())?;
    Ok(())
}
