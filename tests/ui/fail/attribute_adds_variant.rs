//! The attribute below the derive adds a variant that the macro has not seen.

use shm_sync::ShmSafe;
use shm_sync_test_attributes::replace;

#[derive(ShmSafe)]
#[replace(Running => Named(&'static str), Running)]
#[repr(u8)]
enum Job {
    Waiting,
    Running,
}

fn main() {}
