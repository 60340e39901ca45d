//! `place_at` writes a value, so its size must be known.

use std::ptr::NonNull;

use shm_sync::{ShmMutex, place_at};

fn place(at: NonNull<ShmMutex<[u8]>>, value: ShmMutex<[u8]>) {
    // SAFETY: it does not compile.
    let _ = unsafe { place_at(at, value) };
}

fn main() {}
