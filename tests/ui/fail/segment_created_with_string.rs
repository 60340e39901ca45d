//! The content of a segment must be `ShmSafe`. Most users meet this message first.

use shm_sync::Segment;

fn main() {
    let _ = Segment::anonymous(String::from("private"));
}
