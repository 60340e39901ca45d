//! The derive macro reports all errors that it can see at once.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
struct Job<'a> {
    name: &'a str,
    run: fn(),
    inputs: (*const u8, *mut u8),
}

fn main() {}
