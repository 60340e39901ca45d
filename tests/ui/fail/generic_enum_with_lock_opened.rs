//! A program that only opens a segment creates no value of the enum.

use shm_sync::{Segment, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(u8)]
enum Choice<T> {
    Nothing,
    Something(T),
}

fn main() -> Result<(), shm_sync::Error> {
    let _choice = Segment::<Choice<ShmMutex<u32>>>::open_read_only("/choice")?;
    Ok(())
}
