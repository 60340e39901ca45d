//! The guards of a readers-writer lock, and the lock with its data that they borrow.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::guard::report_poison;
use super::or_recover::{OrRecover, sealed};
use super::raw_rwlock::{RawRwLock, ReadToken, WriteToken};
use super::robust_lock::FlaggedToken;
use crate::error::{Error, LockError, LockResult, PoisonCause, Poisoned};
use crate::robust::{Blocking, BoundToThread};

/// A readers-writer lock and its data: all of a [`ShmRwLock`](crate::ShmRwLock).
#[repr(C)]
pub(super) struct RwCell<T, const READERS: usize> {
    pub(super) raw: RawRwLock<READERS>,
    pub(super) data: UnsafeCell<T>,
}

// SAFETY: a shared reference lends the data to one thread exclusively, so it moves
// between threads and T must be Send; or to several threads at the same time, so T must
// be Sync. `std::sync::RwLock` has the same bounds.
unsafe impl<T: Send + Sync, const READERS: usize> Sync for RwCell<T, READERS> {}
// SAFETY: a lock that is moved is not initialised, because an initialised one lies in
// memory that gives only shared references. So the data moves, and T is Send.
unsafe impl<T: Send, const READERS: usize> Send for RwCell<T, READERS> {}

// A panic of a writer poisons, and a reader changes nothing. `std::sync::RwLock`
// implements the same traits.
impl<T, const READERS: usize> UnwindSafe for RwCell<T, READERS> {}
impl<T, const READERS: usize> RefUnwindSafe for RwCell<T, READERS> {}

impl<T, const READERS: usize> RwCell<T, READERS> {
    pub(super) const fn new(value: T) -> Self {
        Self {
            raw: RawRwLock::new(),
            data: UnsafeCell::new(value),
        }
    }

    #[inline(always)]
    pub(super) fn read(
        &self,
        blocking: Blocking,
    ) -> LockResult<ShmRwLockReadGuard<'_, T, READERS>> {
        let token = match self.raw.read(blocking) {
            Ok(token) => token,
            Err(error) => return Err(error.into_lock_error()),
        };
        let guard = || ShmRwLockReadGuard {
            cell: self,
            token,
            bound: PhantomData,
        };
        report_poison(self.raw.poison(), guard)
    }

    #[inline(always)]
    pub(super) fn write(
        &self,
        blocking: Blocking,
    ) -> LockResult<ShmRwLockWriteGuard<'_, T, READERS>> {
        let token = match self.raw.write(blocking) {
            Ok(WriteToken(token)) => token,
            Err(error) => return Err(error.into_lock_error()),
        };
        let token = FlaggedToken::new(token, std::thread::panicking());
        let guard = || ShmRwLockWriteGuard {
            cell: self,
            token,
            bound: PhantomData,
        };
        report_poison(self.raw.poison(), guard)
    }
}

/// Read access to the data of a [`ShmRwLock`](crate::ShmRwLock). Dropping it ends the
/// access.
///
/// ```
/// use shm_sync::{Segment, ShmRwLock};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let settings = Segment::anonymous(ShmRwLock::<u64>::new(7))?;
/// let first = settings.read()?;
/// let second = settings.read()?;
/// assert_eq!(*first, *second);
/// # drop((first, second));
/// # Ok(())
/// # }
/// ```
///
/// A leaked guard ([`mem::forget`](std::mem::forget)) keeps writers out until its
/// thread ends, and the segment stays mapped.
///
/// # Forks
///
/// The parent has the access. In a forked child the guard must not be used, and
/// dropping it does nothing.
#[must_use = "the access ends at once if the guard is not kept"]
pub struct ShmRwLockReadGuard<'a, T, const READERS: usize = 16> {
    cell: &'a RwCell<T, READERS>,
    token: ReadToken,
    bound: BoundToThread,
}

// SAFETY: a shared guard gives `&T`, and T is Sync.
unsafe impl<T: Sync, const READERS: usize> Sync for ShmRwLockReadGuard<'_, T, READERS> {}

impl<T, const READERS: usize> Deref for ShmRwLockReadGuard<'_, T, READERS> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this thread has read access, so no thread has write access, and no
        // `&mut T` exists.
        unsafe { &*self.cell.data.get() }
    }
}

impl<T, const READERS: usize> Drop for ShmRwLockReadGuard<'_, T, READERS> {
    #[inline]
    fn drop(&mut self) {
        self.cell.raw.end_read(self.token);
    }
}

impl<T: fmt::Debug, const READERS: usize> fmt::Debug for ShmRwLockReadGuard<'_, T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display, const READERS: usize> fmt::Display for ShmRwLockReadGuard<'_, T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// Write access to the data of a [`ShmRwLock`](crate::ShmRwLock). Dropping it ends the
/// access.
///
/// ```
/// use shm_sync::{Segment, ShmRwLock};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let settings = Segment::anonymous(ShmRwLock::<u64>::new(7))?;
/// *settings.write()? += 1;
/// assert_eq!(*settings.read()?, 8);
/// # Ok(())
/// # }
/// ```
///
/// A panic while the guard exists poisons the lock.
///
/// A leaked guard ([`mem::forget`](std::mem::forget)) keeps the access, and the segment
/// stays mapped. When its thread ends, the data is poisoned.
///
/// # Forks
///
/// The parent has the access. In a forked child the guard must not be used, and
/// dropping it does nothing.
#[must_use = "the access ends at once if the guard is not kept"]
pub struct ShmRwLockWriteGuard<'a, T, const READERS: usize = 16> {
    cell: &'a RwCell<T, READERS>,
    /// Its flag tells whether the thread was already panicking when it acquired the
    /// access. That panic does not poison.
    token: FlaggedToken,
    bound: BoundToThread,
}

// SAFETY: a shared guard gives `&T`, and T is Sync.
unsafe impl<T: Sync, const READERS: usize> Sync for ShmRwLockWriteGuard<'_, T, READERS> {}

impl<'a, T, const READERS: usize> ShmRwLockWriteGuard<'a, T, READERS> {
    /// Turns write access into read access: no other writer comes between. Readers come
    /// in at once. It is an associated function, so that it hides no method of the
    /// data.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmRwLock, ShmRwLockWriteGuard};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let settings = Segment::anonymous(ShmRwLock::<u64>::new(7))?;
    /// let mut guard = settings.write()?;
    /// *guard = 8;
    /// let guard = ShmRwLockWriteGuard::downgrade(guard);
    /// assert_eq!((*guard, settings.readers()), (8, 1));
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Writers wait for this reader as for a writer before them. To read once more, its
    /// thread needs a seat, and waits if all are taken.
    ///
    /// # Crash behaviour
    ///
    /// If the thread dies in this call, the data may be poisoned, although the writer
    /// has finished. If it dies afterwards, that is the death of a reader.
    #[must_use = "the access ends at once if the guard is not kept"]
    pub fn downgrade(guard: Self) -> ShmRwLockReadGuard<'a, T, READERS> {
        let guard = ManuallyDrop::new(guard);
        guard.poison_if_panicking();
        let cell = guard.cell;
        ShmRwLockReadGuard {
            cell,
            token: cell.raw.downgrade(guard.write_token()),
            bound: PhantomData,
        }
    }

    /// Poisons the data if this thread panics, unless it did so already when it
    /// acquired the access.
    #[inline]
    fn poison_if_panicking(&self) {
        if std::thread::panicking() && !self.token.flag() {
            self.cell.raw.poison_by_panic(self.write_token());
        }
    }

    #[inline]
    fn write_token(&self) -> WriteToken {
        WriteToken(self.token.token())
    }
}

impl<T, const READERS: usize> Deref for ShmRwLockWriteGuard<'_, T, READERS> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this thread has write access, so only this guard gives access to the
        // data. The guard is borrowed shared, so no `&mut T` exists.
        unsafe { &*self.cell.data.get() }
    }
}

impl<T, const READERS: usize> DerefMut for ShmRwLockWriteGuard<'_, T, READERS> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this thread has write access, so only this guard gives access to the
        // data. The guard is borrowed exclusively, so no other reference exists.
        unsafe { &mut *self.cell.data.get() }
    }
}

impl<T, const READERS: usize> Drop for ShmRwLockWriteGuard<'_, T, READERS> {
    #[inline]
    fn drop(&mut self) {
        self.poison_if_panicking();
        self.cell.raw.end_write(self.write_token());
    }
}

impl<T: fmt::Debug, const READERS: usize> fmt::Debug for ShmRwLockWriteGuard<'_, T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display, const READERS: usize> fmt::Display for ShmRwLockWriteGuard<'_, T, READERS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<'a, T, const READERS: usize> Poisoned<ShmRwLockWriteGuard<'a, T, READERS>> {
    /// Repairs the data with `repair`, clears the poison, and returns the guard.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmRwLock};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let settings = Segment::anonymous(ShmRwLock::<u64>::new(7))?;
    /// # std::thread::scope(|s| {
    /// #     s.spawn(|| std::mem::forget(settings.write()));
    /// # });
    /// // A writer has died.
    /// let Err(LockError::Poisoned(poisoned)) = settings.write() else {
    ///     panic!("the lock is poisoned");
    /// };
    /// let guard = poisoned.recover(|value| *value = 0);
    /// assert_eq!(*guard, 0);
    /// assert!(!settings.is_poisoned());
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If `repair` panics, the access ends and the lock stays poisoned, now with
    /// [`PoisonCause::Panicked`](crate::PoisonCause::Panicked). (The cause stays if the
    /// thread was already panicking when it acquired the access.)
    ///
    /// # Crash behaviour
    ///
    /// If the process dies in `repair`, the lock stays poisoned. The next writer must
    /// repair the changes of both writers.
    pub fn recover(mut self, repair: impl FnOnce(&mut T)) -> ShmRwLockWriteGuard<'a, T, READERS> {
        repair(&mut self.guard);
        let raw = &self.guard.cell.raw;
        if raw.is_written_by(self.guard.write_token()) {
            raw.poison().clear();
        }
        self.guard
    }
}

impl<T, const READERS: usize> sealed::Sealed for LockResult<ShmRwLockWriteGuard<'_, T, READERS>> {}

impl<'a, T, const READERS: usize> OrRecover for LockResult<ShmRwLockWriteGuard<'a, T, READERS>> {
    type Data = T;
    type Acquired = ShmRwLockWriteGuard<'a, T, READERS>;

    fn or_recover(
        self,
        repair: impl FnOnce(&mut T, PoisonCause),
    ) -> Result<ShmRwLockWriteGuard<'a, T, READERS>, Error> {
        match self {
            Ok(guard) => Ok(guard),
            Err(LockError::Poisoned(poisoned)) => {
                let cause = poisoned.cause();
                Ok(poisoned.recover(|data| repair(data, cause)))
            }
            Err(other) => Err(other.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn numbers_are_documented() {
        type Cell = RwCell<[u64; 2], 5>;
        documented::fields!("ShmRwLock", Cell { raw, data }, [("R", 5), ("T", 16)]);
    }
}
