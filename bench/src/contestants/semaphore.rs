//! Semaphores used as locks.

use std::mem::size_of;

use super::guarded::Guarded;
use super::lock::{Cost, Lock, Profile, Scope, fail};
use crate::failure::Failure;
use crate::semaphores;
use crate::series::Survives;
use crate::shared::Shared;

/// A process-shared `sem_t` that counts to one.
#[derive(Debug)]
pub(crate) struct PosixSemaphore {
    shared: Shared<Guarded<semaphores::PosixSemaphore>>,
}

impl Lock for PosixSemaphore {
    const PROFILE: Profile = Profile {
        name: "POSIX semaphore",
        survives: Survives::Nothing,
        tells: false,
        scope: Scope::Processes,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<libc::sem_t>(),
    };

    fn create() -> Result<Self, Failure> {
        let shared = Shared::<Guarded<semaphores::PosixSemaphore>>::zeroed()?;
        shared.lock.init(1)?;
        Ok(Self { shared })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        let semaphore = &self.shared.lock;
        semaphore
            .wait()
            .unwrap_or_else(|error| fail("sem_wait", error));
        // SAFETY: the semaphore counts to one, so this worker is the only holder.
        let result = inside(unsafe { self.shared.value() });
        semaphore
            .post()
            .unwrap_or_else(|error| fail("sem_post", error));
        result
    }
}

/// A System V semaphore that counts to one, with `SEM_UNDO`.
#[derive(Debug)]
pub(crate) struct SystemVSemaphore {
    semaphore: semaphores::SystemVSemaphore,
    shared: Shared<Guarded<()>>,
}

impl SystemVSemaphore {
    #[inline]
    fn add(&self, change: i16) {
        self.semaphore
            .add(change)
            .unwrap_or_else(|error| fail("semop", error));
    }
}

impl Lock for SystemVSemaphore {
    const PROFILE: Profile = Profile {
        name: "System V semaphore",
        survives: Survives::Kills,
        tells: false,
        scope: Scope::Processes,
        cost: Cost::SystemCalls,
        bytes: 0,
    };

    fn create() -> Result<Self, Failure> {
        Ok(Self {
            semaphore: semaphores::SystemVSemaphore::create(1)?,
            shared: Shared::zeroed()?,
        })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        self.add(-1);
        // SAFETY: the semaphore counts to one, so this worker is the only holder.
        let result = inside(unsafe { self.shared.value() });
        self.add(1);
        result
    }
}
