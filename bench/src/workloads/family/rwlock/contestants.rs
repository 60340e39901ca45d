//! The locks, around two numbers that are equal whenever no writer is inside.

use shm_sync::{Error, Segment, ShmMutex, ShmRwLock};

use crate::failure::Failure;
use crate::series::{SHM_SYNC, Survives};

/// Two numbers.
pub(super) type Pair = [u64; 2];

/// A lock that readers may share.
pub(super) trait ReadersWriter: Sized + 'static {
    const NAME: &'static str;
    const SURVIVES: Survives;

    /// Creates a lock around zeros before the workers are forked.
    fn create() -> Result<Self, Failure>;

    /// Locks for reading, looks at the numbers, and unlocks.
    fn read(&self, look: impl FnOnce(&Pair)) -> Result<(), Failure>;

    /// Locks for writing, changes the numbers, and unlocks.
    fn write(&self, change: impl FnOnce(&mut Pair)) -> Result<(), Failure>;
}

/// `ShmRwLock` with the default number of seats.
pub(super) struct Own(Segment<ShmRwLock<Pair>>);

impl ReadersWriter for Own {
    const NAME: &'static str = SHM_SYNC;
    const SURVIVES: Survives = Survives::Kills;

    fn create() -> Result<Self, Failure> {
        Ok(Self(Segment::anonymous(ShmRwLock::new([0; 2]))?))
    }

    #[inline]
    fn read(&self, look: impl FnOnce(&Pair)) -> Result<(), Failure> {
        look(&*self.0.read().map_err(Error::from)?);
        Ok(())
    }

    #[inline]
    fn write(&self, change: impl FnOnce(&mut Pair)) -> Result<(), Failure> {
        change(&mut *self.0.write().map_err(Error::from)?);
        Ok(())
    }
}

/// `ShmMutex`, whose readers exclude each other.
pub(super) struct Mutex(Segment<ShmMutex<Pair>>);

impl ReadersWriter for Mutex {
    const NAME: &'static str = "ShmMutex";
    const SURVIVES: Survives = Survives::Kills;

    fn create() -> Result<Self, Failure> {
        Ok(Self(Segment::anonymous(ShmMutex::new([0; 2]))?))
    }

    #[inline]
    fn read(&self, look: impl FnOnce(&Pair)) -> Result<(), Failure> {
        look(&*self.0.lock().map_err(Error::from)?);
        Ok(())
    }

    #[inline]
    fn write(&self, change: impl FnOnce(&mut Pair)) -> Result<(), Failure> {
        change(&mut *self.0.lock().map_err(Error::from)?);
        Ok(())
    }
}
