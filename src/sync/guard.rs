//! `ShmMutexGuard`, and the lock with its data that it borrows.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::or_recover::{OrRecover, sealed};
use super::poison::PoisonWord;
use super::raw_mutex::RawMutex;
use super::robust_lock::{FlaggedToken, LockToken};
use crate::error::{Error, LockError, LockResult, PoisonCause, Poisoned};
use crate::os::pthread::Protocol;
use crate::robust::BoundToThread;

/// A lock and the data that it guards: all of a [`ShmMutex`](crate::ShmMutex).
#[repr(C)]
pub(super) struct MutexCell<T: ?Sized> {
    pub(super) raw: RawMutex,
    pub(super) data: UnsafeCell<T>,
}

// SAFETY: a shared reference lends the data to one thread at a time, exclusively. So
// the data moves between threads, and T must be Send. No two threads share it, so T
// need not be Sync. `std::sync::Mutex` has the same bound.
unsafe impl<T: Send + ?Sized> Sync for MutexCell<T> {}
// SAFETY: a mutex that is moved is not initialised, because an initialised one lies in
// memory that gives only shared references. So the data moves, and T is Send.
unsafe impl<T: Send + ?Sized> Send for MutexCell<T> {}

// A panic with the lock held poisons, so the next locker learns of it.
// `std::sync::Mutex` implements the same traits.
impl<T: ?Sized> UnwindSafe for MutexCell<T> {}
impl<T: ?Sized> RefUnwindSafe for MutexCell<T> {}

impl<T> MutexCell<T> {
    pub(super) const fn new(value: T, protocol: Protocol) -> Self {
        Self {
            raw: RawMutex::new(protocol),
            data: UnsafeCell::new(value),
        }
    }
}

impl<T: ?Sized> MutexCell<T> {
    /// Returns a guard for a lock that this thread has acquired. If the mutex is
    /// poisoned, the error has the guard.
    #[inline(always)]
    pub(super) fn guard(&self, token: LockToken) -> LockResult<ShmMutexGuard<'_, T>> {
        let token = FlaggedToken::new(token, std::thread::panicking());
        let guard = || ShmMutexGuard {
            cell: self,
            token,
            bound: PhantomData,
        };
        report_poison(self.raw.poison(), guard)
    }

    /// Unlocks for the drop of a guard. Does nothing if this thread does not hold the
    /// lock: after a fork, or after C code has unlocked.
    ///
    /// It is out of line, and takes the parts of the guard in registers. Each slow path
    /// is the last call of the function, so it saves no registers. Each store to the
    /// stack would delay the exchange of the lock word. (An optimised build compiles a
    /// generic function in the user's crate. In a program, a thread-local variable then
    /// needs no call.)
    #[inline(never)]
    fn unlock(&self, token: FlaggedToken) {
        if !self.raw.unlock_fast(token.token()) {
            self.unlock_slow(token);
        }
    }

    #[cold]
    #[inline(never)]
    fn unlock_slow(&self, token: FlaggedToken) {
        // `false` means that this thread does not hold the lock.
        let _ = self.raw.unlock_slow(token.token());
    }

    /// Unlocks for the drop of a guard in a thread that panics. Poisons, unless the
    /// thread was panicking when it locked.
    #[cold]
    fn unlock_in_panic(&self, token: FlaggedToken) {
        self.poison_if_panicking(token);
        self.unlock_slow(token);
    }

    #[inline]
    fn poison_if_panicking(&self, token: FlaggedToken) {
        if std::thread::panicking() && !token.flag() {
            self.raw.poison_by_panic(token.token());
        }
    }
}

/// Returns the guard that `guard` makes. If the data is poisoned, the error has it.
///
/// The guard is made last, so that it stays in registers.
#[inline(always)]
pub(super) fn report_poison<G>(poison: &PoisonWord, guard: impl FnOnce() -> G) -> LockResult<G> {
    if poison.is_set() {
        // Without a cause, `clear_poison` has run between the two reads.
        if let Some(cause) = poison.cause() {
            let guard = guard();
            return Err(LockError::Poisoned(Poisoned { guard, cause }));
        }
    }
    Ok(guard())
}

/// Exclusive access to the data of a [`ShmMutex`](crate::ShmMutex). Dropping it
/// unlocks.
///
/// ```
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
/// let mut guard = counter.lock()?;
/// *guard += 1;
/// drop(guard);
/// assert_eq!(*counter.lock()?, 1);
/// # Ok(())
/// # }
/// ```
///
/// A panic while the guard exists poisons the mutex.
///
/// A leaked guard ([`mem::forget`](std::mem::forget)) keeps the lock, and the segment
/// stays mapped: see [`Segment`](crate::Segment). When its thread ends, the next locker
/// gets [`Poisoned`].
///
/// In the cookbook: [a counter](crate::guide::cookbook#a-counter),
/// [async services](crate::guide::cookbook#async-services).
///
/// # Forks
///
/// The parent holds the lock. In a forked child the guard must not be used, and
/// dropping it does nothing.
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct ShmMutexGuard<'a, T: ?Sized> {
    pub(super) cell: &'a MutexCell<T>,
    /// Its flag tells whether the thread was already panicking when it locked. That
    /// panic does not poison.
    token: FlaggedToken,
    bound: BoundToThread,
}

// SAFETY: a shared guard gives `&T`, and T is Sync. `mutex` gives a shared mutex, whose
// data must be Send; it exists for `SegmentContent` only, which is Send.
unsafe impl<T: Sync + ?Sized> Sync for ShmMutexGuard<'_, T> {}

impl<'a, T: ?Sized> ShmMutexGuard<'a, T> {
    /// Takes the guard apart without unlocking. If the thread panics, this poisons as
    /// dropping the guard does: a destructor may wait with the guard.
    pub(super) fn into_parts(self) -> (&'a MutexCell<T>, LockToken) {
        let this = std::mem::ManuallyDrop::new(self);
        this.cell.poison_if_panicking(this.token);
        (this.cell, this.token.token())
    }
}

impl<T: ?Sized> Deref for ShmMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this thread holds the lock, so only this guard gives access to the
        // data. The guard is borrowed shared, so no `&mut T` exists.
        unsafe { &*self.cell.data.get() }
    }
}

impl<T: ?Sized> DerefMut for ShmMutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this thread holds the lock, so only this guard gives access to the
        // data. The guard is borrowed exclusively, so no other reference exists.
        unsafe { &mut *self.cell.data.get() }
    }
}

impl<T: ?Sized> Drop for ShmMutexGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        let (cell, token) = (self.cell, self.token);
        if std::thread::panicking() {
            cell.unlock_in_panic(token);
        } else {
            cell.unlock(token);
        }
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for ShmMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display + ?Sized> fmt::Display for ShmMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<'a, T: ?Sized> Poisoned<ShmMutexGuard<'a, T>> {
    /// Repairs the data with `repair`, clears the poison, and returns the guard.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let counter = Segment::anonymous(ShmMutex::new(7_u64))?;
    /// # let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
    /// #     let _guard = counter.lock();
    /// #     panic!("with the lock held");
    /// # }));
    /// # assert!(died.is_err());
    /// // A holder has panicked.
    /// let Err(LockError::Poisoned(poisoned)) = counter.lock() else {
    ///     panic!("the mutex is poisoned");
    /// };
    /// let guard = poisoned.recover(|count| *count = 0);
    /// assert_eq!(*guard, 0);
    /// assert!(!counter.is_poisoned());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// If `repair` panics, the lock is released and stays poisoned, now with
    /// [`PoisonCause::Panicked`](crate::PoisonCause::Panicked). (The cause stays if the
    /// thread was already panicking when it locked.)
    ///
    /// # Crash behaviour
    ///
    /// If the process dies in `repair`, the lock stays poisoned. The next locker must
    /// repair the changes of both holders.
    pub fn recover(mut self, repair: impl FnOnce(&mut T)) -> ShmMutexGuard<'a, T> {
        repair(&mut self.guard);
        let raw = &self.guard.cell.raw;
        // C code may have unlocked meanwhile. Then the poison is another holder's.
        if raw.is_held(self.guard.token.token()) {
            raw.poison().clear();
        }
        self.guard
    }
}

impl<T: ?Sized> sealed::Sealed for LockResult<ShmMutexGuard<'_, T>> {}

impl<'a, T: ?Sized> OrRecover for LockResult<ShmMutexGuard<'a, T>> {
    type Data = T;
    type Acquired = ShmMutexGuard<'a, T>;

    #[inline(always)]
    fn or_recover(
        self,
        repair: impl FnOnce(&mut T, PoisonCause),
    ) -> Result<ShmMutexGuard<'a, T>, Error> {
        match self {
            Ok(guard) => Ok(guard),
            Err(LockError::Poisoned(poisoned)) => Ok(recover(poisoned, repair)),
            Err(other) => Err(Error::from(other)),
        }
    }
}

/// Is out of line, so that callers inline only a few instructions.
#[cold]
fn recover<T: ?Sized>(
    poisoned: Poisoned<ShmMutexGuard<'_, T>>,
    repair: impl FnOnce(&mut T, PoisonCause),
) -> ShmMutexGuard<'_, T> {
    let cause = poisoned.cause();
    poisoned.recover(|data| repair(data, cause))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn numbers_are_documented() {
        type Cell = MutexCell<[u64; 2]>;
        documented::fields!("ShmMutex", Cell { raw, data }, [("T", 16)]);
    }
}
