//! shm-sync.

use std::mem::size_of;

use shm_sync::{Segment, ShmMutex};

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
        // A count needs no repair.
        match self.segment.lock_or_recover(|_count, _cause| ()) {
            Ok(mut count) => inside(&mut count),
            Err(error) => fail("ShmMutex::lock_or_recover", error),
        }
    }
}
