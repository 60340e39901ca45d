//! The semaphores, with `N` permits.

use shm_sync::{Segment, ShmSemaphore};

use crate::failure::Failure;
use crate::semaphores::{PosixSemaphore, SystemVSemaphore};
use crate::series::{SHM_SYNC, Survives};
use crate::shared::Shared;

/// A semaphore that processes share.
pub(super) trait Semaphore: Sized + 'static {
    const NAME: &'static str;
    const SURVIVES: Survives;

    /// Creates it before the workers are forked.
    fn create() -> Result<Self, Failure>;

    /// Acquires a permit, calls `inside`, and releases the permit.
    fn with(&self, inside: impl FnOnce()) -> Result<(), Failure>;
}

/// `ShmSemaphore`.
pub(super) struct Own<const N: usize>(Segment<ShmSemaphore<N>>);

impl<const N: usize> Semaphore for Own<N> {
    const NAME: &'static str = SHM_SYNC;
    const SURVIVES: Survives = Survives::Kills;

    fn create() -> Result<Self, Failure> {
        Ok(Self(Segment::anonymous(ShmSemaphore::new())?))
    }

    #[inline]
    fn with(&self, inside: impl FnOnce()) -> Result<(), Failure> {
        let _permit = self.0.acquire()?;
        inside();
        Ok(())
    }
}

/// `sem_t`. The permit of a dead holder is lost.
pub(super) struct Posix<const N: usize>(Shared<PosixSemaphore>);

impl<const N: usize> Semaphore for Posix<N> {
    const NAME: &'static str = "POSIX semaphore";
    const SURVIVES: Survives = Survives::Nothing;

    fn create() -> Result<Self, Failure> {
        let semaphore = Shared::<PosixSemaphore>::zeroed()?;
        semaphore.init(N as u32)?;
        Ok(Self(semaphore))
    }

    #[inline]
    fn with(&self, inside: impl FnOnce()) -> Result<(), Failure> {
        self.0.wait()?;
        inside();
        self.0.post()
    }
}

/// `semop` with `SEM_UNDO`. The kernel adds the permit of a dead holder again.
pub(super) struct SystemV<const N: usize>(SystemVSemaphore);

impl<const N: usize> Semaphore for SystemV<N> {
    const NAME: &'static str = "System V semaphore";
    const SURVIVES: Survives = Survives::Kills;

    fn create() -> Result<Self, Failure> {
        Ok(Self(SystemVSemaphore::create(N as i32)?))
    }

    #[inline]
    fn with(&self, inside: impl FnOnce()) -> Result<(), Failure> {
        self.0.add(-1)?;
        inside();
        self.0.add(1)
    }
}
