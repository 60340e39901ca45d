//! shm-sync.

use std::mem::size_of;

use shm_sync::{LockError, Segment, ShmMutex, ShmMutexGuard};

use super::lock::{Cost, Lock, Profile, Scope, fail};
use crate::failure::Failure;
use crate::series::Survives;

/// `ShmMutex<u64>` in an anonymous segment.
#[derive(Debug)]
pub(crate) struct ShmSync {
    segment: Segment<ShmMutex<u64>>,
}

impl Lock for ShmSync {
    const PROFILE: Profile = Profile {
        name: "shm-sync",
        survives: Survives::Kills,
        tells: true,
        scope: Scope::Processes,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<ShmMutex<()>>(),
    };

    fn create() -> Result<Self, Failure> {
        Ok(Self {
            segment: Segment::anonymous(ShmMutex::new(0))?,
        })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        match self.segment.lock() {
            Ok(mut count) => inside(&mut count),
            Err(error) => inside(&mut recover(error)),
        }
    }
}

/// Recovers the lock after an owner death. A count needs no repair.
#[cold]
fn recover<'a>(error: LockError<ShmMutexGuard<'a, u64>>) -> ShmMutexGuard<'a, u64> {
    match error {
        LockError::Poisoned(poisoned) => poisoned.recover(|_count| ()),
        error => fail("ShmMutex::lock", error),
    }
}
