//! The derive macro has seen fewer variants than there are.

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
