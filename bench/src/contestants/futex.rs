//! A futex lock: rustix-futex-sync, the mutex of `std` for shared memory.
//!
//! In a second contestant its number is in another cache line, which shows what the
//! second line costs. A third one has the stores of a robust list as well. A `ShmMutex`
//! has both.

use std::mem::size_of;
use std::sync::atomic::AtomicUsize;

use rustix_futex_sync::shm;

use super::guarded::Guarded;
use super::list_stores::with_list_stores;
use super::lock::{Cost, Lock, Profile, Scope};
use crate::failure::Failure;
use crate::series::{FUTEX_IN_TWO_LINES, LISTED_FUTEX, Survives};
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

/// rustix-futex-sync's mutex, with the number in the next cache line. In this benchmark
/// the number of a `ShmMutex` is there as well: its words have 64 bytes, and begin at a
/// line.
pub(crate) struct FutexInTwoLines {
    shared: Shared<Guarded<OneLine>>,
}

/// A cache line with a mutex.
#[repr(C, align(64))]
struct OneLine(shm::Mutex<()>);

// SAFETY: its documentation says that zeros are an unlocked mutex. It refers to no
// process.
unsafe impl Zeroed for OneLine {}

impl Lock for FutexInTwoLines {
    const PROFILE: Profile = Profile {
        name: FUTEX_IN_TWO_LINES,
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
        let _guard = self.shared.lock.0.lock();
        // SAFETY: this worker holds the lock until `_guard` is dropped, after `inside`
        // has returned. It has no other reference to the number.
        inside(unsafe { self.shared.value() })
    }
}

/// [`FutexInTwoLines`] with the stores of a robust list.
pub(crate) struct ListedFutex {
    shared: Shared<Guarded<ListedLine>>,
}

/// A cache line with a mutex and its place on the list.
#[repr(C, align(64))]
struct ListedLine {
    next: AtomicUsize,
    mutex: shm::Mutex<()>,
}

// SAFETY: zeros are an unlocked mutex, as its documentation says, and a valid number.
// No thread follows `next`.
unsafe impl Zeroed for ListedLine {}

impl Lock for ListedFutex {
    const PROFILE: Profile = Profile {
        name: LISTED_FUTEX,
        survives: Survives::Nothing,
        tells: false,
        scope: Scope::Processes,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<shm::RawMutex>() + size_of::<AtomicUsize>(),
    };

    fn create() -> Result<Self, Failure> {
        Ok(Self {
            shared: Shared::zeroed()?,
        })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        let ListedLine { next, mutex } = &self.shared.lock;
        with_list_stores(
            next,
            || mutex.lock(),
            // SAFETY: this worker holds the lock until the guard is dropped, after
            // `inside` has returned. It has no other reference to the number.
            || inside(unsafe { self.shared.value() }),
            drop,
        )
    }
}
