//! The options of a segment create and open segments of this type only.

use shm_sync::{Segment, ShmMutex};

fn main() -> Result<(), shm_sync::Error> {
    let options = Segment::<ShmMutex<u64>>::options().mode(0o660);
    let _created = options.create("/counter", ShmMutex::new(1_i32))?;
    let _opened: Segment<ShmMutex<i32>> = options.open("/counter")?;
    Ok(())
}
