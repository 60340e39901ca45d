//! A lock that depends on a parameter is refused when the parameter is known.

use shm_sync::{Segment, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(u8)]
enum Maybe<T> {
    Nothing,
    Just(T),
}

fn main() -> Result<(), shm_sync::Error> {
    let _fine = Segment::anonymous(Maybe::Just(1_u32))?;
    let _segment = Segment::anonymous(Maybe::Just(ShmMutex::new(1_u32)))?;
    Ok(())
}
