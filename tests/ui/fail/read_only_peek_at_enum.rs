//! A value that is copied while it changes must be valid in every mixture of bytes.

use shm_sync::{Segment, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(u8)]
enum Job {
    None,
    Some(bool),
}

fn main() -> Result<(), shm_sync::Error> {
    let job = Segment::<ShmMutex<Job>>::open_read_only("/job")?;
    let _ = job.view().peek();
    Ok(())
}
