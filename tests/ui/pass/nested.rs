//! Structs in structs, arrays of structs with locks, locks in tuples.

use shm_sync::{PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmSafe};

#[derive(ShmSafe)]
#[repr(C)]
struct Worker {
    id: u8,
    lock: ShmMutex<u32>,
}

#[derive(ShmSafe)]
#[repr(C)]
struct Pool {
    size: u16,
    workers: [Worker; 3],
    changed: ShmCondvar,
    for_c: (bool, PthreadCondvar),
}

#[derive(ShmSafe)]
#[repr(C)]
struct Server {
    pools: (Pool, [Pool; 2]),
    /// An alias for the type changes nothing.
    alias: Alias,
}

type Alias = ShmMutex<[u64; 4]>;

fn worker(id: u8) -> Worker {
    Worker {
        id,
        lock: ShmMutex::new(u32::from(id)),
    }
}

fn pool(size: u16) -> Pool {
    Pool {
        size,
        workers: [worker(0), worker(1), worker(2)],
        changed: ShmCondvar::new(),
        for_c: (true, PthreadCondvar::new()),
    }
}

fn main() -> Result<(), shm_sync::Error> {
    let server = Segment::anonymous(Server {
        pools: (pool(3), [pool(3), pool(3)]),
        alias: ShmMutex::new([1; 4]),
    })?;
    for pool in std::iter::once(&server.pools.0).chain(&server.pools.1) {
        for worker in &pool.workers {
            assert_eq!(*worker.lock.lock()?, u32::from(worker.id));
        }
        pool.changed.notify_one();
        pool.for_c.1.notify_one();
    }
    assert_eq!(server.alias.lock()?[3], 1);
    Ok(())
}
