//! Structs with unnamed fields, and structs without fields.

use shm_sync::{Segment, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(C)]
struct Pair(u8, ShmMutex<u32>);

#[derive(ShmSafe)]
#[repr(C)]
struct Nothing;

#[derive(ShmSafe)]
#[repr(C)]
struct NoFields {}

#[derive(ShmSafe)]
#[repr(C)]
struct NoElements();

fn main() -> Result<(), shm_sync::Error> {
    let pair = Segment::anonymous(Pair(1, ShmMutex::new(2)))?;
    assert_eq!((pair.0, *pair.1.lock()?), (1, 2));
    let _nothing = Segment::anonymous((Nothing, NoFields {}, NoElements()))?;
    Ok(())
}
