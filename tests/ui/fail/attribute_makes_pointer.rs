//! The changed type dereferences, and so coerces, to the type that the macro has seen.

use std::ops::Deref;

use shm_sync::ShmSafe;
use shm_sync_test_attributes::replace;

struct Elsewhere(&'static u64);

impl Deref for Elsewhere {
    type Target = u64;

    fn deref(&self) -> &u64 {
        self.0
    }
}

#[derive(ShmSafe)]
#[replace(u64 => Elsewhere)]
#[repr(u8)]
enum Job<T> {
    Waiting(T),
    Running { id: u32, size: u64 },
}

fn main() {}
