//! The same rules hold for the fields of variants.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(u8)]
enum Message {
    Ping,
    Text(&'static str),
    Slice { id: u32, bytes: &'static [u8] },
}

fn main() {}
