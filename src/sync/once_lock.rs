//! `ShmOnceLock`: a value that is made once, by the first process that needs it.
//!
//! | word | meaning |
//! |---|---|
//! | `state` | [`MADE`]: `value` is complete, and does not change any more |
//! | `maker` | the seat of the thread that makes the value |
//!
//! The store of `state` is the commit. A maker that dies before it leaves bytes that no
//! thread reads, and a seat that the next maker takes.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::{MaybeUninit, offset_of};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU32, Ordering};

use super::seat::Seat;
use super::turn::Turn;
use crate::error::{Error, LockError};
use crate::robust::Blocking;
use crate::shm_safe::{FieldPath, Parts, ShmSafe, TypeProperties, Visitor};

/// A value in shared memory that is made once, and then read without a lock.
///
/// ```
/// use shm_sync::{Segment, ShmOnceLock};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// // Between programs: `Segment::open_or_create("/limit", ShmOnceLock::<u64>::new)`.
/// let limit = Segment::anonymous(ShmOnceLock::<u64>::new())?;
/// assert_eq!(limit.get(), None);
/// assert_eq!(*limit.get_or_init(|| 7)?, 7);
/// assert_eq!(*limit.get_or_init(|| 8)?, 7, "the value is made once");
/// # Ok(())
/// # }
/// ```
///
/// A value that a segment always has is simpler made by the closure of
/// [`Segment::open_or_create`](crate::Segment::open_or_create). This type is for values
/// that are made late.
///
/// It can't contain locks, because they would not be initialised:
///
/// ```compile_fail,E0080
/// use shm_sync::{ShmMutex, ShmOnceLock};
/// let late = ShmOnceLock::<ShmMutex<u64>>::new();
/// ```
///
/// # Crash behaviour
///
/// A process that dies or panics while it makes the value leaves none. The next one
/// makes it, at the latest 250 ms later if it already waits. A complete value stays.
///
/// A maker that is slow or stopped lets all others wait.
///
/// # Forks
///
/// In shared memory, parent and child use the same value. A child that is forked while
/// its parent makes the value does not make it.
#[repr(C)]
pub struct ShmOnceLock<T> {
    maker: Seat,
    /// [`MADE`], or any other value: not made yet.
    state: AtomicU32,
    value: UnsafeCell<MaybeUninit<T>>,
}

pub(crate) const MADE: u32 = 1;

/// The offset of the state in bytes, whatever the type of the value.
pub(crate) const MADE_AT: usize = offset_of!(ShmOnceLock<u8>, state);

// SAFETY: threads share the value, and the thread that reads it need not be the one
// that made it.
unsafe impl<T: Send + Sync> Sync for ShmOnceLock<T> {}

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)`. The fingerprint covers the value, the size and the alignment.
// * The words have the same meaning in every process, and there is no destructor.
// * Sync objects: the seat, reported at its offset. The value has none, or this would
//   not compile.
// * Zeros are valid, because they mean that there is no value. A mixture is not: it
//   could combine `MADE` with bytes that are no value.
unsafe impl<T: ShmSafe> ShmSafe for ShmOnceLock<T> {
    const PARTS: Parts = {
        let () = Self::VALUE_HAS_NO_LOCKS;
        Parts {
            kind: "ShmOnceLock",
            size: size_of::<Self>(),
            align: align_of::<Self>(),
            fields: &[("value", offset_of!(Self, value), T::DESCRIPTION)],
            variants: &[],
        }
    };
    const SYNC_OBJECTS: usize = 1;
    const PROPERTIES: TypeProperties = TypeProperties::POD
        .with_interior_mutability()
        .without_tear_free();

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        Seat::visit(&at.field("maker", offset_of!(Self, maker)), visitor);
    }
}

// A panic leaves no value, because the store of `state` comes last.
impl<T: UnwindSafe> UnwindSafe for ShmOnceLock<T> {}
impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for ShmOnceLock<T> {}

impl<T: ShmSafe> ShmOnceLock<T> {
    const VALUE_HAS_NO_LOCKS: () = assert!(
        T::SYNC_OBJECTS == 0,
        "the value of a ShmOnceLock can't contain locks: put them beside it"
    );

    /// Makes a place without a value. A [`Segment`](crate::Segment) or
    /// [`place_at`](crate::place_at) initialises it later. Making a value before that
    /// fails with [`LockError::NotPlaced`].
    #[must_use]
    pub const fn new() -> Self {
        let () = Self::VALUE_HAS_NO_LOCKS;
        Self {
            maker: Seat::new(),
            state: AtomicU32::new(0),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Returns the value, if it is made. Does not wait.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        if self.state.load(Ordering::Acquire) != MADE {
            return None;
        }
        // SAFETY: `MADE` is stored after the value, which then does not change. The
        // load has acquired it.
        let value = unsafe { &*self.value.get() };
        // SAFETY: the same, so the value is complete.
        Some(unsafe { value.assume_init_ref() })
    }

    /// Returns the value. If there is none, makes it by `make`, or waits for the thread
    /// that makes it.
    ///
    /// # Errors
    ///
    /// * [`LockError::Deadlock`] in [`Error::Lock`]: `make` has called this function.
    /// * [`LockError::NotOwner`] in [`Error::Lock`]: `make` has forked, and this is the
    ///   child.
    /// * [`LockError::TooManyLocks`] in [`Error::Lock`]: this thread holds
    ///   [`MAX_LOCKS_HELD`](crate::MAX_LOCKS_HELD) robust locks.
    /// * [`LockError::NotPlaced`] in [`Error::Lock`], [`Error::ForeignPidNamespace`],
    ///   [`LockError::NotRecoverable`] in [`Error::Lock`], [`Error::Unidentified`],
    ///   [`Error::Os`]: this process can't make the value; see there.
    ///
    /// # Panics
    ///
    /// If `make` panics. There is then no value.
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> Result<&T, Error> {
        self.get_or_try_init(|| Ok(make()))
    }

    /// Returns the value. If there is none, makes it by `make`, which may fail. There
    /// is then no value.
    ///
    /// ```
    /// use shm_sync::{Error, Segment, ShmOnceLock};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let port = Segment::anonymous(ShmOnceLock::<u16>::new())?;
    /// type Failure = Box<dyn std::error::Error>;
    /// let failed: Result<_, Failure> = port.get_or_try_init(|| Ok("many".parse()?));
    /// assert!(failed.is_err() && port.get().is_none());
    /// let port: Result<_, Failure> = port.get_or_try_init(|| Ok("80".parse()?));
    /// assert_eq!(*port?, 80);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * The error of `make`.
    /// * The errors of [`get_or_init`](Self::get_or_init).
    ///
    /// # Panics
    ///
    /// If `make` panics. There is then no value.
    pub fn get_or_try_init<E: From<Error>>(
        &self,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let turn = Turn::take(&self.maker, Blocking::Wait).map_err(Error::from)?;
        if let Some(value) = self.get() {
            return Ok(value);
        }
        let value = make()?;
        if !turn.is_mine() {
            return Err(Error::Lock(LockError::NotOwner).into());
        }
        // SAFETY: this thread has the seat, and the value is not made. So no other
        // thread accesses the bytes.
        let place = unsafe { &mut *self.value.get() };
        let value = place.write(value);
        self.state.store(MADE, Ordering::Release);
        Ok(value)
    }

    /// Returns a mutable reference to the value, if it is made. No other thread can
    /// have the place.
    #[must_use]
    pub fn get_mut(&mut self) -> Option<&mut T> {
        let is_made = *self.state.get_mut() == MADE;
        // SAFETY: `MADE` is stored after the value.
        is_made.then(|| unsafe { self.value.get_mut().assume_init_mut() })
    }

    /// Returns the value, if it is made.
    #[must_use]
    pub fn into_inner(self) -> Option<T> {
        let is_made = self.state.into_inner() == MADE;
        // SAFETY: `MADE` is stored after the value.
        is_made.then(|| unsafe { self.value.into_inner().assume_init() })
    }
}

impl<T: ShmSafe> Default for ShmOnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ShmSafe + fmt::Debug> fmt::Debug for ShmOnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmOnceLock")
            .field("value", &self.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;
    use crate::init::place_at;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::ptr::NonNull;

    fn placed() -> &'static ShmOnceLock<u64> {
        let place = Box::leak(Box::new(MaybeUninit::<ShmOnceLock<u64>>::uninit()));
        // SAFETY: the place is aligned, writable, leaked, and of no other use.
        unsafe { place_at(NonNull::from(place).cast(), ShmOnceLock::new()) }
            .expect("pthread initialises it")
    }

    #[test]
    fn smoke() {
        let lock = placed();
        assert_eq!(lock.get(), None);
        assert_eq!(*lock.get_or_init(|| 3).expect("it is free"), 3);
        assert_eq!(lock.get(), Some(&3));
    }

    #[test]
    fn only_one_thread_makes_the_value() {
        let lock = placed();
        let made = AtomicU32::new(0);
        std::thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    let value =
                        lock.get_or_init(|| u64::from(made.fetch_add(1, Ordering::Relaxed)) + 5);
                    assert_eq!(*value.expect("it can be made"), 5);
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn panicking_maker_is_replaced() {
        let lock = placed();
        let panicking = AssertUnwindSafe(|| lock.get_or_init(|| panic!("no value")).is_ok());
        assert!(catch_unwind(panicking).is_err());
        assert_eq!(lock.get(), None);
        assert_eq!(*lock.get_or_init(|| 4).expect("the seat was left"), 4);
    }

    #[test]
    fn recursion_is_a_deadlock() {
        let lock = placed();
        let result = lock.get_or_try_init(|| lock.get_or_init(|| 1).copied());
        assert!(
            matches!(result, Err(Error::Lock(LockError::Deadlock))),
            "{result:?}"
        );
        assert_eq!(lock.get(), None);
    }

    #[test]
    fn value_in_ordinary_memory_is_not_placed() {
        let mut lock = ShmOnceLock::<u8>::new();
        let result = lock.get_or_init(|| 1).copied();
        assert!(matches!(result, Err(Error::Lock(LockError::NotPlaced))));
        assert_eq!(lock.get_mut(), None);
        assert_eq!(lock.into_inner(), None);
    }

    #[test]
    fn numbers_are_documented() {
        type Pair = ShmOnceLock<[u64; 2]>;
        documented::fields!(
            "ShmOnceLock",
            Pair {
                maker,
                state,
                value
            },
            [("T", 16)]
        );
        documented::values("state of a ShmOnceLock", &[("MADE", MADE.into())]);
    }
}
