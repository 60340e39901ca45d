//! The same rules hold for the fields of variants.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(u8)]
enum Message {
    Ping,
    Text(String),
    Letter { id: u32, text: String },
}

fn main() {}
