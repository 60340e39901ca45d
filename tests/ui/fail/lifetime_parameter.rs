//! A borrowed value exists in one process only.

use std::marker::PhantomData;

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
struct View<'a> {
    start: u64,
    of: PhantomData<&'a u8>,
}

fn main() {}
