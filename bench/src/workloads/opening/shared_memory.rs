//! The crate `shared_memory`. Who creates it takes its name away when it is dropped.

use std::sync::atomic::{AtomicU64, Ordering};

use ::shared_memory::{Shmem, ShmemConf, ShmemError};

use super::{Kind, Memory};
use crate::failure::Failure;
use crate::report::Survives;

/// A mapping of `shared_memory`.
pub(super) struct SharedMemory;

impl Memory for SharedMemory {
    const NAME: &'static str = "shared_memory";
    // Others may find it without a length, and whoever creates it next finds it there.
    const SURVIVES: Survives = Survives::SomeKills;
    type Attached = Shmem;

    fn create(&self) -> Result<Shmem, Failure> {
        let memory = of_this_process().size(4096).create().map_err(failure)?;
        number(&memory).store(7, Ordering::Relaxed);
        Ok(memory)
    }

    fn open(&self, _first: &Shmem) -> Result<Shmem, Failure> {
        let memory = of_this_process().open().map_err(failure)?;
        match number(&memory).load(Ordering::Relaxed) {
            7 => Ok(memory),
            other => Err(Failure::Wrong {
                contestant: Self::NAME,
                what: format!("{other} was never stored"),
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

fn of_this_process() -> ShmemConf {
    ShmemConf::new().os_id(Kind::Posix.address())
}

fn number(memory: &Shmem) -> &AtomicU64 {
    // SAFETY: the mapping is at least a page long, aligned to one, and lives as long as
    // the borrow; everybody uses the number as an atomic.
    unsafe { &*memory.as_ptr().cast::<AtomicU64>() }
}

fn failure(error: ShmemError) -> Failure {
    Failure::Wrong {
        contestant: SharedMemory::NAME,
        what: error.to_string(),
    }
}
