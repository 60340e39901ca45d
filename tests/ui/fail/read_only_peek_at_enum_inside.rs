//! An enum with fields is found inside structs, arrays and parameters.

use shm_sync::{ReadOnly, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(u8)]
enum Job {
    None,
    Some(bool),
}

#[derive(ShmSafe)]
#[repr(C)]
struct Worker<T> {
    id: u32,
    job: [T; 2],
}

fn look(worker: ReadOnly<'_, ShmMutex<Worker<Job>>>) {
    let _ = worker.peek();
}

fn main() {}
