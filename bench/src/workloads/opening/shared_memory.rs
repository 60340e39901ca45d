//! The crate `shared_memory`. The creator removes the name when it drops the memory.

use std::sync::atomic::{AtomicU64, Ordering};

use ::shared_memory::{Shmem, ShmemConf, ShmemError};

use super::api::{Backing, SharedMemoryApi};
use crate::failure::Failure;
use crate::series::Survives;

/// Shared memory of the crate `shared_memory`.
pub(super) struct SharedMemory;

impl SharedMemoryApi for SharedMemory {
    const NAME: &'static str = "shared_memory";
    // Other processes may find an object without a length. The next creator finds it
    // too and fails.
    const SURVIVES: Survives = Survives::SomeKills;
    type Attachment = Shmem;

    fn create(&self) -> Result<Shmem, Failure> {
        let memory = config().size(4096).create().map_err(failure)?;
        number(&memory).store(7, Ordering::Relaxed);
        Ok(memory)
    }

    fn open(&self, _first: &Shmem) -> Result<Shmem, Failure> {
        let memory = config().open().map_err(failure)?;
        match number(&memory).swap(7, Ordering::Relaxed) {
            7 => Ok(memory),
            other => Err(Failure::WrongResult {
                contestant: Self::NAME,
                what: format!("read {other}, which no process stored"),
            }),
        }
    }

    fn open_or_create(&self) -> Option<Result<Shmem, Failure>> {
        None
    }

    fn remove(&self) -> Result<(), Failure> {
        Ok(())
    }
}

fn config() -> ShmemConf {
    ShmemConf::new().os_id(Backing::Posix.address())
}

fn number(memory: &Shmem) -> &AtomicU64 {
    // SAFETY: the mapping is at least a page long, aligned to a page and stays mapped
    // as long as the borrow. All processes access the number as an atomic.
    unsafe { &*memory.as_ptr().cast::<AtomicU64>() }
}

fn failure(error: ShmemError) -> Failure {
    Failure::WrongResult {
        contestant: SharedMemory::NAME,
        what: error.to_string(),
    }
}
