//! An atomic in read-only memory can only be loaded.

use std::sync::atomic::{AtomicU64, Ordering};

use shm_sync::Segment;

fn main() -> Result<(), shm_sync::Error> {
    let done = Segment::<AtomicU64>::open_read_only("/done")?;
    done.view().store(1, Ordering::Relaxed);
    done.view().fetch_add(1, Ordering::Relaxed);
    Ok(())
}
