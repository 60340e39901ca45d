//! A type with a fixed size has no length to choose.

use shm_sync::SegmentOptions;

fn main() -> Result<(), shm_sync::Error> {
    let _array = SegmentOptions::<[u64; 4]>::new().create_with_len("/array", 4, |_| {})?;
    Ok(())
}
