//! A generic struct is as safe as what it is filled with.

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
