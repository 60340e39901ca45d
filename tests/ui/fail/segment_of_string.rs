//! The content of a segment must be `ShmSafe`.

use shm_sync::Segment;

struct Server {
    counter: Segment<u32>,
    motd: Segment<String>,
}

fn main() {}
