//! A value may come from any source, such as `zeroed`, which a C program would use.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use shm_sync::{ShmMutex, place_at};

type Nested = ShmMutex<ShmMutex<u32>>;

fn main() -> Result<(), shm_sync::Error> {
    let mut memory = MaybeUninit::<Nested>::uninit();
    let memory = NonNull::from(&mut memory).cast();
    // SAFETY: this line does not compile, so it never runs.
    let _nested = unsafe { place_at::<Nested>(memory, std::mem::zeroed()) }?;
    Ok(())
}
