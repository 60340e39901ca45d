//! `ShmRwLock`: many readers or one writer, with the data inside.

use std::fmt;
use std::mem::offset_of;
use std::time::{Duration, Instant};

use super::or_recover::OrRecover;
use super::raw_rwlock::RawRwLock;
use super::rwlock_guard::{RwCell, ShmRwLockReadGuard, ShmRwLockWriteGuard};
use super::seat::{Seat, Seats};
use super::snapshot::Holder;
use crate::error::{Error, LockError, LockResult, PoisonCause};
use crate::os::clock::Deadline;
use crate::robust::Blocking;
use crate::shm_safe::{FieldPath, Parts, ShmSafe, TearFree, TypeProperties, Visitor};

/// A readers-writer lock for shared memory, around the data that it guards: many
/// threads read at the same time, or one writes.
///
/// ```
/// use shm_sync::{Segment, ShmRwLock};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// // Between programs: `Segment::open_or_create("/settings", || ShmRwLock::new(..))`.
/// let settings = Segment::anonymous(ShmRwLock::<_>::new((1_u64, 2_u64)))?;
/// {
///     let mut settings = settings.write()?;
///     settings.0 = 3;
///     settings.1 = 4;
/// }
/// assert_eq!(*settings.read()?, (3, 4));
/// # Ok(())
/// # }
/// ```
///
/// Each reader has a seat, with a cache line to itself. So readers on different
/// processors do not slow each other. The price is memory (64 bytes for each of
/// `READERS` seats) and a writer that looks at all seats. Where a tenth of the accesses
/// or more are writes, a [`ShmMutex`](crate::ShmMutex) is faster.
///
/// If all seats are taken, a further reader waits until one is vacant.
///
/// # Order
///
/// A reader that has a seat waits for one writer at most. A writer waits only for the
/// readers that were there before it, and for the writers before it. So neither can
/// keep the other out for ever.
///
/// A thread that reads may read once more, also while a writer waits. It can't write
/// before it has ended its reading: that is [`LockError::Deadlock`], as is reading or
/// writing while it writes. A writer can turn its access into reading:
/// [`downgrade`](ShmRwLockWriteGuard::downgrade). There is no upgrade, because two
/// threads that upgrade would wait for each other.
///
/// # Crash behaviour
///
/// A thread dies by a signal, `exit`, `exec` or its end.
///
/// | death of | effect |
/// |---|---|
/// | a reader | none; a writer that waits for it goes on |
/// | a thread that waits to read or to write | none |
/// | a writer that has acquired access | the data is poisoned |
///
/// The kernel wakes a waiter at once if it has `futex_waitv` (Linux 5.16) and there are
/// no more than 127 seats. Otherwise the waiters notice the death within 250 ms.
///
/// After a writer has died or panicked, readers and writers get
/// [`LockError::Poisoned`] with their access, until a writer repairs the data.
/// [`write_or_recover`](Self::write_or_recover) and
/// [`read_or_recover`](Self::read_or_recover) do that in one call. The advice for the
/// repair is that of [`ShmMutex`](crate::ShmMutex#crash-behaviour): a journal.
///
/// A reader or writer that is slow or stopped is not dead, and keeps its access. If it
/// is stopped while it waits, it keeps its place: a writer keeps out all others, and a
/// reader keeps out later writers. A thread *other than the main thread* that calls
/// `exec` keeps its access for ever, as with a
/// [`ShmMutex`](crate::ShmMutex#crash-behaviour).
///
/// A reader that dies may have read anything, and has changed nothing. Data with
/// interior mutability (atomics) that readers change is not poisoned.
///
/// # Forks
///
/// A forked child does not have its parent's access. An inherited guard does nothing
/// when dropped. The child must not access the data through it.
///
/// # Nesting
///
/// The data must not contain locks: a write guard gives `&mut` access, which could move
/// an initialised pthread object. Code that makes, opens or locks such a lock does not
/// compile.
///
/// ```compile_fail,E0080
/// use shm_sync::{ShmMutex, ShmRwLock};
/// let nested = ShmRwLock::<_>::new(ShmMutex::new(0_u32));
/// ```
///
/// Nor can there be no seats:
///
/// ```compile_fail,E0080
/// let none = shm_sync::ShmRwLock::<u32, 0>::new(0);
/// ```
#[repr(transparent)]
pub struct ShmRwLock<T, const READERS: usize = 16> {
    cell: RwCell<T, READERS>,
}

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)` over the lock and the data. The fingerprint covers both. The
//   offset of the data alone would not tell the number of seats, because it may be
//   rounded up.
// * Sync objects: the seats, reported at their offsets. The data has none, or the
//   fingerprint and the walk would not compile.
// * No destructor: the lock has none, and T is ShmSafe.
// * Any bytes are valid as the lock, so zeros and mixtures are valid if they are for T.
unsafe impl<T: ShmSafe, const READERS: usize> ShmSafe for ShmRwLock<T, READERS> {
    const PARTS: Parts = {
        let () = Self::DATA_HAS_NO_LOCKS;
        Parts {
            kind: "ShmRwLock",
            size: size_of::<Self>(),
            align: align_of::<Self>(),
            fields: &[
                (
                    "readers",
                    offset_of!(Self, cell.raw.readers),
                    Seats::<READERS>::DESCRIPTION,
                ),
                ("data", offset_of!(Self, cell.data), T::DESCRIPTION),
            ],
            variants: &[],
        }
    };
    const SYNC_OBJECTS: usize = {
        let () = Self::DATA_HAS_NO_LOCKS;
        2 + Seats::<READERS>::SYNC_OBJECTS
    };
    const PROPERTIES: TypeProperties = T::PROPERTIES.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        const { Self::DATA_HAS_NO_LOCKS }
        Seat::visit(&at.field("gate", offset_of!(Self, cell.raw.gate)), visitor);
        Seat::visit(
            &at.field("writer", offset_of!(Self, cell.raw.writer)),
            visitor,
        );
        Seats::<READERS>::visit(
            &at.field("readers", offset_of!(Self, cell.raw.readers)),
            visitor,
        );
    }
}

// SAFETY: any bytes are valid as the lock, so a mixture is valid if that of the data
// is.
unsafe impl<T: TearFree, const READERS: usize> TearFree for ShmRwLock<T, READERS> {}

impl<T: ShmSafe, const READERS: usize> ShmRwLock<T, READERS> {
    /// Rejects data with sync objects, as
    /// [`ShmMutex::DATA_HAS_NO_LOCKS`](super::mutex::ShmMutex) does.
    const DATA_HAS_NO_LOCKS: () = assert!(
        T::SYNC_OBJECTS == 0,
        "the data of a ShmRwLock can't contain locks or condition variables: \
         put them beside it, in the struct that contains the ShmRwLock"
    );

    /// Makes a lock that a [`Segment`](crate::Segment) or
    /// [`place_at`](crate::place_at) initialises later. Using it before that fails
    /// with [`LockError::NotPlaced`].
    ///
    /// The second parameter of the type is the number of seats, 16 by default.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmRwLock};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let settings: ShmRwLock<u64, 4> = ShmRwLock::new(7);
    /// assert!(matches!(settings.read(), Err(LockError::NotPlaced)));
    ///
    /// let settings = Segment::anonymous(settings)?;
    /// assert_eq!(*settings.read()?, 7);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn new(value: T) -> Self {
        const { Self::DATA_HAS_NO_LOCKS }
        Self {
            cell: RwCell::new(value),
        }
    }

    /// Acquires read access, and waits in the kernel until it can.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmRwLock};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let settings = Segment::anonymous(ShmRwLock::<u64>::new(7))?;
    /// let guard = settings.read()?;
    /// assert_eq!((*guard, settings.readers()), (7, 1));
    /// // Waiting for the end of its own reading would never end.
    /// assert!(matches!(settings.write(), Err(LockError::Deadlock)));
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::Poisoned`]: this thread has the access, and the data may be
    ///   inconsistent.
    /// * [`LockError::Deadlock`]: this thread writes.
    /// * [`LockError::TooManyLocks`]: this thread holds
    ///   [`MAX_LOCKS_HELD`](crate::MAX_LOCKS_HELD) robust locks and seats (a call
    ///   that waits needs room for one more), or reads this lock 4,096 times.
    /// * [`LockError::NotPlaced`], [`LockError::ForeignPidNamespace`],
    ///   [`LockError::NotRecoverable`], [`LockError::Unidentified`],
    ///   [`LockError::Os`]: this process can't use the lock; see there.
    #[inline(always)]
    pub fn read(&self) -> LockResult<ShmRwLockReadGuard<'_, T, READERS>> {
        self.read_by(Blocking::Wait)
    }

    /// Acquires read access, if no writer writes or waits at this moment and a seat is
    /// vacant.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmRwLock};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let settings = Segment::anonymous(ShmRwLock::<u64>::new(7))?;
    /// let guard = settings.write()?;
    /// assert!(matches!(settings.try_read(), Err(LockError::WouldBlock)));
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::WouldBlock`]: a writer writes (possibly this thread) or waits, or
    ///   a `try_write` is under way, or all seats are taken.
    /// * The errors of [`read`](Self::read), except [`LockError::Deadlock`].
    #[inline(always)]
    pub fn try_read(&self) -> LockResult<ShmRwLockReadGuard<'_, T, READERS>> {
        self.read_by(Blocking::Try)
    }

    /// Acquires read access, and waits at most for `timeout`. The wait is in the
    /// kernel, by the monotonic clock. A timeout too long to represent means for ever.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmRwLock};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let settings = Segment::anonymous(ShmRwLock::<u64>::new(7))?;
    /// let guard = settings.write()?;
    /// std::thread::scope(|s| {
    ///     s.spawn(|| {
    ///         let timed_out = settings.try_read_for(Duration::from_millis(1));
    ///         assert!(matches!(timed_out, Err(LockError::TimedOut)));
    ///     });
    /// });
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::TimedOut`]: the access was not free in time.
    /// * The errors of [`read`](Self::read).
    pub fn try_read_for(
        &self,
        timeout: Duration,
    ) -> LockResult<ShmRwLockReadGuard<'_, T, READERS>> {
        self.read_by(Blocking::WaitUntil(Deadline::after(timeout)))
    }

    /// Acquires read access, and waits at most until `deadline`: see
    /// [`try_read_for`](Self::try_read_for).
    ///
    /// # Errors
    ///
    /// Those of [`try_read_for`](Self::try_read_for).
    pub fn try_read_until(
        &self,
        deadline: Instant,
    ) -> LockResult<ShmRwLockReadGuard<'_, T, READERS>> {
        self.read_by(Blocking::WaitUntil(Deadline::at(deadline)))
    }

    /// Acquires read access. If the lock is poisoned, first acquires write access,
    /// repairs the data with `repair`, and clears the poison.
    ///
    /// Other threads may write between the repair and the read, and die again. So
    /// `repair` may be called more than once.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmRwLock};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let settings = Segment::anonymous(ShmRwLock::<u64>::new(7))?;
    ///     # std::thread::scope(|s| {
    ///     #     s.spawn(|| std::mem::forget(settings.write()));
    ///     # });
    ///     // A writer has died.
    ///     let settings = settings.read_or_recover(|value, cause| {
    ///         eprintln!("repairing: {cause}");
    ///         *value = 0;
    ///     })?;
    ///     assert_eq!(*settings, 0);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// * Those of [`read`](Self::read), as an [`Error`], except [`Error::Poisoned`].
    /// * [`LockError::Deadlock`] in [`Error::Lock`], too, if the lock is poisoned and
    ///   this thread reads already: it can't repair the data.
    ///
    /// # Panics
    ///
    /// If `repair` panics, the access ends and the lock stays poisoned, now with
    /// [`PoisonCause::Panicked`].
    ///
    /// # Crash behaviour
    ///
    /// If the process dies in `repair`, the lock stays poisoned. The next writer must
    /// repair the changes of both writers.
    pub fn read_or_recover(
        &self,
        mut repair: impl FnMut(&mut T, PoisonCause),
    ) -> Result<ShmRwLockReadGuard<'_, T, READERS>, Error> {
        loop {
            match self.read() {
                Ok(guard) => return Ok(guard),
                Err(LockError::Poisoned(poisoned)) => {
                    drop(poisoned);
                    drop(self.write_or_recover(&mut repair)?);
                }
                Err(other) => return Err(other.into()),
            }
        }
    }

    /// Acquires write access, and waits in the kernel until it can.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmRwLock};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let settings = Segment::anonymous(ShmRwLock::<u64>::new(7))?;
    /// let mut guard = settings.write()?;
    /// *guard += 1;
    /// // Waiting for the end of its own writing would never end.
    /// assert!(matches!(settings.read(), Err(LockError::Deadlock)));
    /// assert!(matches!(settings.write(), Err(LockError::Deadlock)));
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::Poisoned`]: this thread has the access, and the data may be
    ///   inconsistent.
    /// * [`LockError::Deadlock`]: this thread reads or writes.
    /// * [`LockError::TooManyLocks`]: this thread holds
    ///   [`MAX_LOCKS_HELD`](crate::MAX_LOCKS_HELD) robust locks and seats. A call
    ///   that waits needs room for one more.
    /// * [`LockError::NotPlaced`], [`LockError::ForeignPidNamespace`],
    ///   [`LockError::NotRecoverable`], [`LockError::Unidentified`],
    ///   [`LockError::Os`]: this process can't use the lock; see there.
    #[inline(always)]
    pub fn write(&self) -> LockResult<ShmRwLockWriteGuard<'_, T, READERS>> {
        self.write_by(Blocking::Wait)
    }

    /// Acquires write access. If the lock is poisoned, repairs the data with `repair`,
    /// which runs with the access, and then clears the poison. [`OrRecover`] does the
    /// same for the other calls that write.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmRwLock};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let settings = Segment::anonymous(ShmRwLock::<u64>::new(7))?;
    ///     *settings.write_or_recover(|value, _| *value = 0)? += 1;
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`write`](Self::write), as an [`Error`], except [`Error::Poisoned`].
    ///
    /// # Panics
    ///
    /// If `repair` panics, the access ends and the lock stays poisoned, now with
    /// [`PoisonCause::Panicked`].
    ///
    /// # Crash behaviour
    ///
    /// If the process dies in `repair`, the lock stays poisoned. The next writer must
    /// repair the changes of both writers.
    pub fn write_or_recover(
        &self,
        repair: impl FnOnce(&mut T, PoisonCause),
    ) -> Result<ShmRwLockWriteGuard<'_, T, READERS>, Error> {
        self.write().or_recover(repair)
    }

    /// Acquires write access, if no thread reads, writes or waits for that at this
    /// moment.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmRwLock};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let settings = Segment::anonymous(ShmRwLock::<u64>::new(7))?;
    /// let guard = settings.read()?;
    /// assert!(matches!(settings.try_write(), Err(LockError::WouldBlock)));
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::WouldBlock`]: a thread reads or writes (possibly this one), or a
    ///   writer waits, or another attempt to read or write is under way.
    /// * The errors of [`write`](Self::write), except [`LockError::Deadlock`].
    #[inline(always)]
    pub fn try_write(&self) -> LockResult<ShmRwLockWriteGuard<'_, T, READERS>> {
        self.write_by(Blocking::Try)
    }

    /// Acquires write access, and waits at most for `timeout`. The wait is in the
    /// kernel, by the monotonic clock. A timeout too long to represent means for ever.
    /// Readers that have come meanwhile go on after the timeout.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmRwLock};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let settings = Segment::anonymous(ShmRwLock::<u64>::new(7))?;
    /// let guard = settings.read()?;
    /// std::thread::scope(|s| {
    ///     s.spawn(|| {
    ///         let timed_out = settings.try_write_for(Duration::from_millis(1));
    ///         assert!(matches!(timed_out, Err(LockError::TimedOut)));
    ///     });
    /// });
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::TimedOut`]: the access was not free in time.
    /// * The errors of [`write`](Self::write).
    pub fn try_write_for(
        &self,
        timeout: Duration,
    ) -> LockResult<ShmRwLockWriteGuard<'_, T, READERS>> {
        self.write_by(Blocking::WaitUntil(Deadline::after(timeout)))
    }

    /// Acquires write access, and waits at most until `deadline`: see
    /// [`try_write_for`](Self::try_write_for).
    ///
    /// # Errors
    ///
    /// Those of [`try_write_for`](Self::try_write_for).
    pub fn try_write_until(
        &self,
        deadline: Instant,
    ) -> LockResult<ShmRwLockWriteGuard<'_, T, READERS>> {
        self.write_by(Blocking::WaitUntil(Deadline::at(deadline)))
    }

    #[inline(always)]
    fn read_by(&self, blocking: Blocking) -> LockResult<ShmRwLockReadGuard<'_, T, READERS>> {
        const { Self::DATA_HAS_NO_LOCKS }
        self.cell.read(blocking)
    }

    #[inline(always)]
    fn write_by(&self, blocking: Blocking) -> LockResult<ShmRwLockWriteGuard<'_, T, READERS>> {
        const { Self::DATA_HAS_NO_LOCKS }
        self.cell.write(blocking)
    }
}

impl<T, const READERS: usize> ShmRwLock<T, READERS> {
    fn raw(&self) -> &RawRwLock<READERS> {
        &self.cell.raw
    }

    /// Returns whether the data may be inconsistent: a writer died or panicked, and no
    /// process has repaired the data since. The answer may be out of date.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmRwLock};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let settings = Segment::anonymous(ShmRwLock::<u64>::new(7))?;
    /// std::thread::scope(|s| {
    ///     // The thread ends with the write access.
    ///     s.spawn(|| std::mem::forget(settings.write()));
    /// });
    /// assert!(matches!(settings.read(), Err(LockError::Poisoned(_))));
    /// assert!(settings.is_poisoned());
    ///
    /// settings.clear_poison();
    /// assert!(!settings.is_poisoned());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.raw().poison_cause().is_some()
    }

    /// Clears the poison without reading the data: see
    /// [`is_poisoned`](Self::is_poisoned) for an example.
    ///
    /// [`Poisoned::recover`](crate::Poisoned::recover) is better, because it has the
    /// write access during the repair.
    ///
    /// # Crash behaviour
    ///
    /// The death of a writer that no thread has seen yet is not cleared.
    pub fn clear_poison(&self) {
        self.raw().poison().clear();
    }

    /// Returns how many threads read at this moment, for diagnosis. See
    /// [`read`](Self::read) for an example.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.raw().readers_inside()
    }

    /// Returns the thread that writes at this moment, for diagnosis. A writer that
    /// waits for readers does not count.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmRwLock};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let settings = Segment::anonymous(ShmRwLock::<u64>::new(7))?;
    /// let guard = settings.write()?;
    /// let writer = settings.writer().expect("this thread writes");
    /// assert_eq!(writer.pid, std::process::id());
    /// drop(guard);
    /// assert_eq!(settings.writer(), None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn writer(&self) -> Option<Holder> {
        self.raw().writer()
    }

    /// Returns the data without locking. The exclusive borrow proves that no other
    /// thread accesses it.
    ///
    /// ```
    /// use shm_sync::ShmRwLock;
    ///
    /// let mut settings: ShmRwLock<u64> = ShmRwLock::new(1);
    /// *settings.get_mut() += 1;
    /// assert_eq!(settings.into_inner(), 2);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.cell.data.get_mut()
    }

    /// Returns the data: see [`get_mut`](Self::get_mut) for an example. Safe code can
    /// call this only on a lock that was never placed, because it can't move a placed
    /// one.
    pub fn into_inner(self) -> T {
        self.cell.data.into_inner()
    }
}

impl<T: ShmSafe + Default, const READERS: usize> Default for ShmRwLock<T, READERS> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ShmSafe, const READERS: usize> From<T> for ShmRwLock<T, READERS> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T, const READERS: usize> fmt::Debug for ShmRwLock<T, READERS> {
    /// Shows the state of the lock, but not the data, because that would need the lock.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmRwLock")
            .field("placed", &self.raw().is_placed())
            .field("readers", &self.readers())
            .field("writer", &self.writer())
            .field("poison", &self.raw().poison_cause())
            .finish_non_exhaustive()
    }
}
