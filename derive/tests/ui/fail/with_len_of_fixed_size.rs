//! A type with a fixed size has no length to choose.

use shm_sync::SegmentOptions;

fn main() -> Result<(), shm_sync::Error> {
    let _array = SegmentOptions::new().create_with_len::<[u64; 4]>("/array", 4, |_| {})?;
    Ok(())
}
