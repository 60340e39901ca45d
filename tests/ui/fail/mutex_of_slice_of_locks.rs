//! A mutex around a slice must not contain locks either.

use shm_sync::{SegmentOptions, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let options = SegmentOptions::new();
    let _nested = options.create_with_len("/nested", 3, |_: &mut ShmMutex<[ShmMutex<u8>]>| {})?;
    Ok(())
}
