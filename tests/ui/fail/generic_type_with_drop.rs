//! A destructor runs in one process while the others still use the value. It is
//! refused also if the fields depend on a parameter or on the type itself.

use std::marker::PhantomData;

use shm_sync::ShmSafe;

#[derive(ShmSafe)]
#[repr(C)]
struct Holding<T> {
    value: T,
}

impl<T> Drop for Holding<T> {
    fn drop(&mut self) {}
}

#[derive(ShmSafe)]
#[repr(C)]
struct Index {
    at: u32,
    of: PhantomData<Self>,
}

impl Drop for Index {
    fn drop(&mut self) {}
}

fn main() {}
