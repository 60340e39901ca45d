//! The derive macro sees only tokens; the compiler sees through the alias.

use shm_sync::ShmSafe;

type Text = &'static str;

#[derive(ShmSafe)]
#[repr(C)]
struct Greeting {
    times: u32,
    text: Text,
}

fn main() {}
