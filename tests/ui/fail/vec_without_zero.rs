//! The elements that are not used yet are zero, so zero must be a value.

use std::num::NonZero;

use shm_sync::ShmVec;

fn main() {
    let _list = ShmVec::<NonZero<u64>, 4>::new();
}
