//! The semaphores of the system. They count, and no permit has an owner that the others
//! learn of.

use std::cell::UnsafeCell;

use nix::errno::Errno;

use crate::failure::Failure;
use crate::shared::Zeroed;

/// A process-shared `sem_t`.
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct PosixSemaphore(UnsafeCell<libc::sem_t>);

// SAFETY: threads may share a semaphore.
unsafe impl Sync for PosixSemaphore {}
// SAFETY: `sem_init` accepts any bytes, and zeros refer to no process.
unsafe impl Zeroed for PosixSemaphore {}

impl PosixSemaphore {
    /// Initialises the semaphore. No thread uses it yet, and it is not moved later.
    pub(crate) fn init(&self, value: u32) -> Result<(), Failure> {
        // SAFETY: the memory is a `sem_t`, which no thread uses yet.
        match unsafe { libc::sem_init(self.0.get(), 1, value) } {
            0 => Ok(()),
            _ => Err(Failure::last_os("sem_init")),
        }
    }

    #[inline]
    pub(crate) fn wait(&self) -> Result<(), Failure> {
        // SAFETY: the caller has initialised the semaphore.
        while unsafe { libc::sem_wait(self.0.get()) } != 0 {
            check_interrupted("sem_wait")?;
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn post(&self) -> Result<(), Failure> {
        // SAFETY: the caller has initialised the semaphore.
        match unsafe { libc::sem_post(self.0.get()) } {
            0 => Ok(()),
            _ => Err(Failure::last_os("sem_post")),
        }
    }
}

/// A System V semaphore. The kernel undoes the operations of a process that ends.
#[derive(Debug)]
pub(crate) struct SystemVSemaphore {
    id: i32,
}

impl SystemVSemaphore {
    pub(crate) fn create(value: i32) -> Result<Self, Failure> {
        // SAFETY: the call takes numbers and no memory.
        let id = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
        if id < 0 {
            return Err(Failure::last_os("semget"));
        }
        let this = Self { id };
        // SAFETY: SETVAL takes an int as its fourth argument.
        match unsafe { libc::semctl(id, 0, libc::SETVAL, value) } {
            0 => Ok(this),
            _ => Err(Failure::last_os("semctl")),
        }
    }

    /// Waits until the value allows `change`, and adds it.
    #[inline]
    pub(crate) fn add(&self, change: i16) -> Result<(), Failure> {
        let mut operation = libc::sembuf {
            sem_num: 0,
            sem_op: change,
            sem_flg: libc::SEM_UNDO as i16,
        };
        // SAFETY: `operation` is one operation and outlives the call.
        while unsafe { libc::semop(self.id, &raw mut operation, 1) } != 0 {
            check_interrupted("semop")?;
        }
        Ok(())
    }
}

impl Drop for SystemVSemaphore {
    fn drop(&mut self) {
        // Forked workers exit without destructors, so only the creator removes it.
        // SAFETY: the call takes numbers and no memory.
        let _ = unsafe { libc::semctl(self.id, 0, libc::IPC_RMID) };
    }
}

/// Succeeds if a signal interrupted the failed call.
#[cold]
fn check_interrupted(call: &'static str) -> Result<(), Failure> {
    match Errno::last() {
        Errno::EINTR => Ok(()),
        error => Err(Failure::os(call)(error)),
    }
}
