//! A generic struct is `ShmSafe` only if its argument is.

use shm_sync::{Segment, ShmSafe};

#[derive(ShmSafe)]
#[repr(C)]
struct Pair<T> {
    first: T,
    second: T,
}

struct Server {
    numbers: Segment<Pair<u32>>,
    names: Segment<Pair<String>>,
}

fn main() {}
