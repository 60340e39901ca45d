//! Semaphores used as locks.

use std::mem::size_of;

use nix::errno::Errno;

use super::guarded::{Foreign, Guarded};
use super::{Cost, Lock, Profile, Scope, broken};
use crate::failure::Failure;
use crate::report::Survives;
use crate::shared::Shared;

/// A process-shared `sem_t`.
#[derive(Debug)]
pub(crate) struct PosixSemaphore {
    shared: Shared<Guarded<Foreign<libc::sem_t>>>,
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

    fn make() -> Result<Self, Failure> {
        let this = Self {
            shared: Shared::zeroed()?,
        };
        // SAFETY: there is room for one, and nobody uses it yet.
        match unsafe { libc::sem_init(this.shared.lock.get(), 1, 1) } {
            0 => Ok(this),
            _ => Err(Failure::last("sem_init")),
        }
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        let semaphore = self.shared.lock.get();
        // SAFETY: `make` initialised it.
        while unsafe { libc::sem_wait(semaphore) } != 0 {
            check_interrupted("sem_wait");
        }
        // SAFETY: the semaphore counts to one, so nobody else is inside.
        let result = inside(unsafe { self.shared.value() });
        // SAFETY: as above.
        if unsafe { libc::sem_post(semaphore) } != 0 {
            broken("sem_post", Errno::last());
        }
        result
    }
}

/// A System V semaphore. Its operations are undone by the kernel when a process ends.
#[derive(Debug)]
pub(crate) struct SystemVSemaphore {
    id: i32,
    shared: Shared<Guarded<()>>,
}

impl SystemVSemaphore {
    /// Adds `change`, and waits until that is possible.
    #[inline]
    fn add(&self, change: i16) {
        let mut operation = libc::sembuf {
            sem_num: 0,
            sem_op: change,
            sem_flg: libc::SEM_UNDO as i16,
        };
        // SAFETY: it is one operation, that is there during the call.
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

    fn make() -> Result<Self, Failure> {
        let shared = Shared::zeroed()?;
        // SAFETY: takes numbers.
        let id = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
        if id < 0 {
            return Err(Failure::last("semget"));
        }
        let this = Self { id, shared };
        // SAFETY: the fourth argument of SETVAL is an int.
        match unsafe { libc::semctl(id, 0, libc::SETVAL, 1) } {
            0 => Ok(this),
            _ => Err(Failure::last("semctl")),
        }
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        self.add(-1);
        // SAFETY: the semaphore counts to one, so nobody else is inside.
        let result = inside(unsafe { self.shared.value() });
        self.add(1);
        result
    }
}

impl Drop for SystemVSemaphore {
    fn drop(&mut self) {
        // Forked workers end without destructors: this runs in who made it.
        // SAFETY: takes numbers.
        let _ = unsafe { libc::semctl(self.id, 0, libc::IPC_RMID) };
    }
}

/// After a call has failed: goes on if a signal interrupted it.
#[cold]
fn check_interrupted(call: &str) {
    let error = Errno::last();
    if error != Errno::EINTR {
        broken(call, error);
    }
}
