//! What has its size from its type has no length to choose.

use shm_sync::Segment;

fn main() -> Result<(), shm_sync::Error> {
    let _array = Segment::<[u64; 4]>::create_with_len("/array", 4, |_| {})?;
    Ok(())
}
