//! A futex lock: rustix-futex-sync, the mutex of `std` for shared memory.

use std::mem::size_of;

use rustix_futex_sync::shm;

use super::lock::{Cost, Lock, Profile, Scope};
use crate::failure::Failure;
use crate::series::Survives;
use crate::shared::{Shared, Zeroed};

/// rustix-futex-sync's `shm::Mutex`, which contains its data.
pub(crate) struct RustixFutexSync {
    shared: Shared<Zero>,
}

#[repr(C, align(64))]
struct Zero(shm::Mutex<u64>);

// SAFETY: its documentation says that zeros are an unlocked mutex. It guards zero and
// refers to no process.
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

    fn create() -> Result<Self, Failure> {
        Ok(Self {
            shared: Shared::zeroed()?,
        })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        inside(&mut self.shared.0.lock())
    }
}
