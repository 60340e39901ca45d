//! A value can come from anywhere: `zeroed` is what a C program would write.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use shm_sync::{ShmMutex, place_at};

type Nested = ShmMutex<ShmMutex<u32>>;

fn main() -> Result<(), shm_sync::Error> {
    let mut memory = MaybeUninit::<Nested>::uninit();
    let memory = NonNull::from(&mut memory).cast();
    // SAFETY: it does not compile.
    let _nested = unsafe { place_at::<Nested>(memory, std::mem::zeroed()) }?;
    Ok(())
}
