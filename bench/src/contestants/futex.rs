//! A futex lock: rustix-futex-sync, the mutex of `std` for shared memory. Also the same
//! lock with the number in another cache line: a bound.

use std::mem::size_of;

use rustix_futex_sync::shm;

use super::guarded::Guarded;
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

/// The same lock. Its number is in the next cache line, like that of a `ShmMutex`, whose
/// words fill a line. So a worker waits for two lines one after the other.
///
/// It shows how fast a lock of one line of words can be.
pub(crate) struct FutexInTwoLines {
    shared: Shared<Guarded<OneLine>>,
}

/// A cache line with a mutex.
#[repr(C, align(64))]
struct OneLine(shm::Mutex<()>);

// SAFETY: see `Zero`. The mutex guards nothing.
unsafe impl Zeroed for OneLine {}

impl FutexInTwoLines {
    pub(crate) const NAME: &str = "futex in two cache lines";
}

impl Lock for FutexInTwoLines {
    const PROFILE: Profile = Profile {
        name: Self::NAME,
        survives: Survives::DoesNotApply,
        tells: false,
        scope: Scope::Processes,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<OneLine>(),
    };

    fn create() -> Result<Self, Failure> {
        Ok(Self {
            shared: Shared::zeroed()?,
        })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        let _guard = self.shared.lock.0.lock();
        // SAFETY: the guard lives as long as `inside` runs, and nothing else uses the
        // number.
        inside(unsafe { self.shared.value() })
    }
}
