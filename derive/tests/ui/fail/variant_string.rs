//! The fields of variants are held to the same rules.

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(u8)]
enum Message {
    Ping,
    Text(String),
    Letter { id: u32, text: String },
}

fn main() {}
