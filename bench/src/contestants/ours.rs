//! shm-sync: the mutex that owns its data.

use std::mem::size_of;

use shm_sync::{LockError, Segment, ShmMutex, ShmMutexGuard};

use super::{Cost, Lock, Profile, Scope, broken};
use crate::failure::Failure;
use crate::report::Survives;

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

    fn make() -> Result<Self, Failure> {
        Ok(Self {
            segment: Segment::anonymous(ShmMutex::new(0))?,
        })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        match self.segment.lock() {
            Ok(mut count) => inside(&mut count),
            Err(error) => inside(&mut inherit(error)),
        }
    }
}

/// What a program does when the last holder died. A count needs no repair.
#[cold]
fn inherit<'a>(error: LockError<ShmMutexGuard<'a, u64>>) -> ShmMutexGuard<'a, u64> {
    match error {
        LockError::Poisoned(poisoned) => poisoned.recover(|_count| ()),
        error => broken("ShmMutex::lock", error),
    }
}
