//! A lock on a bare futex: rustix-futex-sync, the mutex of `std` for shared memory.

use std::mem::size_of;

use rustix_futex_sync::shm;

use super::{Cost, Lock, Profile, Scope};
use crate::failure::Failure;
use crate::report::Survives;
use crate::shared::{Shared, Zeroed};

/// rustix-futex-sync's `shm::Mutex`, which owns its data.
pub(crate) struct RustixFutexSync {
    shared: Shared<Zero>,
}

#[repr(C, align(64))]
struct Zero(shm::Mutex<u64>);

// SAFETY: zeros are a free mutex, by its documentation, around zero.
unsafe impl Zeroed for Zero {}

impl Lock for RustixFutexSync {
    const PROFILE: Profile = Profile {
        name: "rustix-futex-sync",
        survives: Survives::Nothing,
        tells: false,
        scope: Scope::Processes,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<shm::RawMutex>(),
    };

    fn make() -> Result<Self, Failure> {
        Ok(Self {
            shared: Shared::zeroed()?,
        })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        inside(&mut self.shared.0.lock())
    }
}
