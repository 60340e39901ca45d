//! A copy that is made while the original changes must be a valid value.

use shm_sync::{Segment, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(u8)]
enum Job {
    None,
    Some(bool),
}

fn main() -> Result<(), shm_sync::Error> {
    let _copy = Segment::<ShmMutex<Job>>::options().open_snapshot("/job")?;
    Ok(())
}
