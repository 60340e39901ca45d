//! Semaphores used as locks.

use std::mem::size_of;

use nix::errno::Errno;

use super::guarded::{ForeignObject, Guarded};
use super::lock::{Cost, Lock, Profile, Scope, fail};
use crate::failure::Failure;
use crate::series::Survives;
use crate::shared::Shared;

/// A process-shared `sem_t`.
#[derive(Debug)]
pub(crate) struct PosixSemaphore {
    shared: Shared<Guarded<ForeignObject<libc::sem_t>>>,
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
        let this = Self {
            shared: Shared::zeroed()?,
        };
        // SAFETY: the memory has the size of a `sem_t`, and no thread uses it yet.
        match unsafe { libc::sem_init(this.shared.lock.get(), 1, 1) } {
            0 => Ok(this),
            _ => Err(Failure::last_os("sem_init")),
        }
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        let semaphore = self.shared.lock.get();
        // SAFETY: `create` has initialised the semaphore.
        while unsafe { libc::sem_wait(semaphore) } != 0 {
            check_interrupted("sem_wait");
        }
        // SAFETY: the semaphore counts to one, so this worker is the only holder.
        let result = inside(unsafe { self.shared.value() });
        // SAFETY: `create` has initialised the semaphore.
        if unsafe { libc::sem_post(semaphore) } != 0 {
            fail("sem_post", Errno::last());
        }
        result
    }
}

/// A System V semaphore. The kernel undoes the operations of a process that ends.
#[derive(Debug)]
pub(crate) struct SystemVSemaphore {
    id: i32,
    shared: Shared<Guarded<()>>,
}

impl SystemVSemaphore {
    /// Waits until the value allows `change`, and adds it.
    #[inline]
    fn add(&self, change: i16) {
        let mut operation = libc::sembuf {
            sem_num: 0,
            sem_op: change,
            sem_flg: libc::SEM_UNDO as i16,
        };
        // SAFETY: `operation` is one operation and outlives the call.
        while unsafe { libc::semop(self.id, &raw mut operation, 1) } != 0 {
            check_interrupted("semop");
        }
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
        let shared = Shared::zeroed()?;
        // SAFETY: the call takes numbers and no memory.
        let id = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
        if id < 0 {
            return Err(Failure::last_os("semget"));
        }
        let this = Self { id, shared };
        // SAFETY: SETVAL takes an int as its fourth argument.
        match unsafe { libc::semctl(id, 0, libc::SETVAL, 1) } {
            0 => Ok(this),
            _ => Err(Failure::last_os("semctl")),
        }
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

impl Drop for SystemVSemaphore {
    fn drop(&mut self) {
        // Forked workers exit without destructors, so only the creator removes it.
        // SAFETY: the call takes numbers and no memory.
        let _ = unsafe { libc::semctl(self.id, 0, libc::IPC_RMID) };
    }
}

/// Returns if a signal interrupted the failed call, and panics otherwise.
#[cold]
fn check_interrupted(call: &str) {
    let error = Errno::last();
    if error != Errno::EINTR {
        fail(call, error);
    }
}
