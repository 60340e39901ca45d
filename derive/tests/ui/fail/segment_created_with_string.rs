//! What a segment holds must be `ShmSafe`. This is how most people will learn.

use shm_sync::Segment;

fn main() {
    let _ = Segment::anonymous(String::from("private"));
}
