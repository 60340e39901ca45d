//! `Published`: the latest complete value, which readers copy without a lock.
//!
//! # The protocol
//!
//! There are three slots. Version `v` is in slot `v % 3`.
//!
//! * **publish**: takes the writer's seat, writes version `v + 1` into its slot, and
//!   stores the version. This store is the commit.
//! * **read**: reads the version `v`, copies its slot, and reads the version again. The
//!   copy is complete if the version has grown by less than 2. For the slot is next
//!   written for version `v + 3`, which begins after version `v + 2` is stored.
//!
//! With two slots, each publication during a copy would make the reader try again.
//!
//! # Memory ordering
//!
//! After Boehm, *Can Seqlocks Get Along With Programming Language Memory Models?*
//! (MSPC 2012). The words of the slots are accessed by relaxed atomic accesses.
//!
//! | publisher | reader |
//! |---|---|
//! | stores version `v + 2` | |
//! | fence, `Release` | |
//! | stores the words of version `v + 3` | loads one of these words |
//! | | fence, `Acquire` |
//! | | loads the version: at least `v + 2` |
//!
//! And the store of a version releases its words, which a reader acquires by its first
//! load and a fence. The store is `SeqCst`, because it is also the change of which a
//! waiter is notified: see [`event_count`](super::event_count).
//!
//! # The crash argument
//!
//! A publisher that dies before it stores the version leaves a slot that no reader
//! copies, and that the next publisher writes again. A publisher that dies afterwards
//! has published; its waiters are not notified, and look themselves at their recheck.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::{MaybeUninit, offset_of};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use super::event_count::EventCount;
use super::robust_lock::RawLockError;
use super::seat::Seat;
use super::turn::Turn;
use crate::error::{Error, LockError};
use crate::os::clock::Deadline;
use crate::os::futex::Wake;
use crate::os::mem::atomic_copy;
use crate::read_only::ReadOnly;
use crate::robust::Blocking;
use crate::shm_safe::{FieldPath, Parts, ShmSafe, TearFree, TypeProperties, Visitor};

/// The latest complete value, for any number of readers.
///
/// Readers take no lock and write nothing, so they can have the segment
/// [read-only](crate::Segment::open_read_only). They never see a value that is half
/// written. Publishers exclude one another.
///
/// ```
/// use shm_sync::{Published, Segment, ShmSafe};
///
/// #[derive(ShmSafe, Clone, Copy, Debug, PartialEq)]
/// #[repr(C)]
/// struct Position {
///     x: f64,
///     y: f64,
/// }
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-published-{}", std::process::id());
/// # let name = name.as_str();
/// let start = Position { x: 0.0, y: 0.0 };
/// let position = Segment::create(name, Published::new(start))?;
/// position.publish(Position { x: 1.5, y: 2.5 })?;
///
/// let monitor = Segment::<Published<Position>>::open_read_only(name)?;
/// assert_eq!(monitor.view().read(), Position { x: 1.5, y: 2.5 });
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// A value must not change while it is shared, so it has no atomics, cells or locks.
///
/// In the cookbook: [a read-only monitor](crate::guide::cookbook#a-read-only-monitor).
///
/// # Crash behaviour
///
/// A publisher that is killed leaves the value before or the value after its
/// publication. The next publisher goes on at once. A reader may be killed or stopped
/// at any time: no other thread notices.
///
/// # Forks
///
/// In shared memory, parent and child use the same values.
#[repr(C)]
pub struct Published<T> {
    writer: Seat,
    version: AtomicU64,
    published: EventCount,
    slots: [UnsafeCell<T>; SLOTS as usize],
}

/// The number of slots. A version is in the slot of its number modulo this.
pub(crate) const SLOTS: u64 = 3;

/// The offset of the version in bytes, whatever the type of the value.
pub(crate) const VERSION_AT: usize = offset_of!(Published<u8>, version);

// SAFETY: the slots are accessed by atomic accesses only. Readers get copies, so T need
// not be `Sync`; it is moved from the publisher to them, so it must be `Send`.
unsafe impl<T: Send> Sync for Published<T> {}

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)`. The fingerprint covers the values, the size and the alignment.
// * The words have the same meaning in every process, and there is no destructor,
//   because T is `Copy`.
// * Sync objects: the seat, reported at its offset. T has none, because none is `Copy`.
// * Any version is valid. So zeros and mixtures are, if they are for T.
unsafe impl<T: ShmSafe + Copy> ShmSafe for Published<T> {
    const PARTS: Parts = {
        let () = Self::VALUE_IS_IMMUTABLE;
        Parts {
            kind: "Published",
            size: size_of::<Self>(),
            align: align_of::<Self>(),
            fields: &[("slots", offset_of!(Self, slots), T::DESCRIPTION)],
            variants: &[],
        }
    };
    const SYNC_OBJECTS: usize = 1;
    const PROPERTIES: TypeProperties = T::PROPERTIES.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        Seat::visit(&at.field("writer", offset_of!(Self, writer)), visitor);
    }
}

// SAFETY: any version is valid, and a mixture of values is, because T is `TearFree`.
unsafe impl<T: TearFree> TearFree for Published<T> {}

// A panic in the closure of `update` publishes nothing.
impl<T: UnwindSafe> UnwindSafe for Published<T> {}
impl<T: RefUnwindSafe> RefUnwindSafe for Published<T> {}

impl<T: ShmSafe + Copy> Published<T> {
    const VALUE_IS_IMMUTABLE: () = assert!(
        T::PROPERTIES.immutable(),
        "a published value can't change while it is shared: atomics and cells are not possible"
    );

    /// Makes a place whose value is `value`, with version 0. A
    /// [`Segment`](crate::Segment) or [`place_at`](crate::place_at) initialises it
    /// later. Publishing before that fails with [`LockError::NotPlaced`].
    #[must_use]
    pub const fn new(value: T) -> Self {
        let () = Self::VALUE_IS_IMMUTABLE;
        Self {
            writer: Seat::new(),
            version: AtomicU64::new(0),
            published: EventCount::new(),
            slots: [
                UnsafeCell::new(value),
                UnsafeCell::new(value),
                UnsafeCell::new(value),
            ],
        }
    }

    /// Publishes a value, and returns its version. Waits for other publishers, and not
    /// for readers.
    ///
    /// # Errors
    ///
    /// * [`LockError::TooManyLocks`] in [`Error::Lock`]: this thread holds
    ///   [`MAX_LOCKS_HELD`](crate::MAX_LOCKS_HELD) robust locks.
    /// * [`LockError::Deadlock`] in [`Error::Lock`]: the closure of
    ///   [`update`](Self::update) has called this function.
    /// * [`LockError::NotOwner`] in [`Error::Lock`]: the closure of
    ///   [`update`](Self::update) has forked, and this is the child.
    /// * [`LockError::NotPlaced`] in [`Error::Lock`], [`Error::ForeignPidNamespace`],
    ///   [`LockError::NotRecoverable`] in [`Error::Lock`], [`Error::Unidentified`],
    ///   [`Error::Os`]: this process can't publish; see there.
    pub fn publish(&self, value: T) -> Result<u64, Error> {
        self.publish_with(|| value)
    }

    /// Publishes what `change` makes of the latest value, and returns the version. No
    /// other thread publishes in between.
    ///
    /// ```
    /// use shm_sync::{Published, Segment};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let totals = Segment::anonymous(Published::new([0_u64; 2]))?;
    /// let version = totals.update(|[sum, count]| [sum + 7, count + 1])?;
    /// assert_eq!(totals.read_with_version(), ([7, 1], version));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`publish`](Self::publish).
    ///
    /// # Panics
    ///
    /// If `change` panics. Then nothing is published.
    pub fn update(&self, change: impl FnOnce(T) -> T) -> Result<u64, Error> {
        self.publish_with(|| change(self.read()))
    }

    /// Publishes what `make` returns. It runs in this thread's turn.
    #[inline]
    fn publish_with(&self, make: impl FnOnce() -> T) -> Result<u64, Error> {
        let version = {
            let turn = Turn::take(&self.writer, Blocking::Wait)?;
            let value = make();
            if !turn.is_mine() {
                return Err(Error::Lock(LockError::NotOwner));
            }
            // 2⁶⁴ is no multiple of 3: version 0 would be in the slot of the last one.
            let version = self.version().checked_add(1).unwrap_or(1);
            self.write(version, value);
            self.version.store(version, Ordering::SeqCst);
            version
        };
        self.published.notify(Wake::All);
        Ok(version)
    }

    /// Writes a value into the slot of its version. This thread has the seat.
    fn write(&self, version: u64, value: T) {
        let mut value = MaybeUninit::new(value);
        atomic_copy::initialise_rest(&mut value);
        // A reader that sees one of the following stores then sees the last version.
        fence(Ordering::Release);
        let (from, to) = (value.as_ptr().cast(), self.slot(version).cast());
        // SAFETY: the value is a local variable, all of whose bytes are initialised.
        // The slot is as large, aligned, and other threads access it by atomic loads
        // only.
        unsafe { atomic_copy::store_relaxed(from, to, size_of::<T>()) };
    }

    fn slot(&self, version: u64) -> *mut T {
        self.slots[(version % SLOTS) as usize].get()
    }

    /// Copies the latest value.
    ///
    /// The copy is repeated if two publications end during it.
    #[inline]
    #[must_use]
    pub fn read(&self) -> T {
        self.read_with_version().0
    }

    /// Copies the latest value, and returns its version as well.
    #[must_use]
    pub fn read_with_version(&self) -> (T, u64) {
        loop {
            let version = self.version.load(Ordering::Relaxed);
            // The publisher's stores to the slot come before its store of the version.
            fence(Ordering::Acquire);
            let mut copy = MaybeUninit::<T>::uninit();
            let (from, to) = (
                self.slot(version).cast_const().cast(),
                copy.as_mut_ptr().cast(),
            );
            // SAFETY: the slot is readable, and threads write to it by atomic stores
            // only. The copy is a local variable of the same size.
            unsafe { atomic_copy::copy_relaxed(from, to, size_of::<T>()) };
            fence(Ordering::Acquire);
            let published = self.version.load(Ordering::Relaxed).wrapping_sub(version);
            if published < SLOTS - 1 {
                // SAFETY: no thread has written to the slot during the copy, as the
                // module documentation argues. So the copy is a published value.
                return (unsafe { copy.assume_init() }, version);
            }
        }
    }

    /// Returns the version of the latest value: how many values were published.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Copies the latest value, if its version is not `seen`. Then `seen` becomes its
    /// version.
    ///
    /// ```
    /// use shm_sync::{Published, Segment};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let level = Segment::anonymous(Published::new(3_u32))?;
    /// let mut seen = level.version();
    /// assert_eq!(level.read_if_newer(&mut seen), None);
    /// level.publish(4)?;
    /// assert_eq!(level.read_if_newer(&mut seen), Some(4));
    /// assert_eq!(level.read_if_newer(&mut seen), None);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn read_if_newer(&self, seen: &mut u64) -> Option<T> {
        if self.version() == *seen {
            return None;
        }
        let (value, version) = self.read_with_version();
        *seen = version;
        Some(value)
    }

    /// Waits in the kernel until the version is not `seen`, at most for `timeout`.
    /// `None` means for ever. Returns whether there is another version.
    ///
    /// A waiter writes to the segment. On a read-only mapping, this function does not
    /// exist.
    ///
    /// # Errors
    ///
    /// * [`LockError::NotPlaced`] in [`Error::Lock`]: it is a value in ordinary memory.
    /// * [`Error::Os`]: the kernel refuses to let the thread sleep, for example by a
    ///   seccomp filter.
    pub fn wait_newer(&self, seen: u64, timeout: Option<Duration>) -> Result<bool, Error> {
        if !self.writer.is_placed() {
            return Err(Error::Lock(LockError::NotPlaced));
        }
        let is_newer = || self.version.load(Ordering::SeqCst) != seen;
        let deadline = timeout.map(Deadline::after);
        let waited = self
            .published
            .wait(deadline, &[], is_newer, || is_newer().then_some(()));
        match waited {
            Ok(answer) => Ok(answer.is_some()),
            Err(error) => Err(RawLockError::Os(error).into()),
        }
    }

    /// Returns a mutable reference to the latest value. No other thread can have it.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        let version = *self.version.get_mut();
        self.slots[(version % SLOTS) as usize].get_mut()
    }
}

impl<T: ShmSafe + Copy> ReadOnly<'_, Published<T>> {
    /// Copies the latest value, like [`Published::read`].
    #[must_use]
    pub fn read(self) -> T {
        self.published().read()
    }

    /// Copies the latest value, and returns its version, like
    /// [`Published::read_with_version`].
    #[must_use]
    pub fn read_with_version(self) -> (T, u64) {
        self.published().read_with_version()
    }

    /// Returns the version of the latest value, like [`Published::version`].
    #[must_use]
    pub fn version(self) -> u64 {
        self.published().version()
    }

    /// Copies the latest value if it is newer, like [`Published::read_if_newer`].
    #[must_use]
    pub fn read_if_newer(self, seen: &mut u64) -> Option<T> {
        self.published().read_if_newer(seen)
    }
}

impl<'a, T: ShmSafe + Copy> ReadOnly<'a, Published<T>> {
    fn published(self) -> &'a Published<T> {
        // SAFETY: the methods above write nothing. They load `Relaxed` from words of at
        // most eight bytes.
        unsafe { self.as_shared() }
    }
}

impl<T: ShmSafe + Copy + Default> Default for Published<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ShmSafe + Copy + fmt::Debug> fmt::Debug for Published<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (value, version) = self.read_with_version();
        f.debug_struct("Published")
            .field("value", &value)
            .field("version", &version)
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
    use std::sync::atomic::AtomicBool;

    /// A value that shows whether it is torn.
    type Wide = [u64; 64];

    fn placed() -> &'static Published<Wide> {
        let place = Box::leak(Box::new(MaybeUninit::<Published<Wide>>::uninit()));
        // SAFETY: the place is aligned, writable, leaked, and of no other use.
        unsafe { place_at(NonNull::from(place).cast(), Published::new([0; 64])) }
            .expect("pthread initialises it")
    }

    #[test]
    fn smoke() {
        let published = placed();
        assert_eq!(published.read_with_version(), ([0; 64], 0));
        for n in 1..10 {
            assert_eq!(published.publish([n; 64]).expect("it is free"), n);
            assert_eq!(published.read_with_version(), ([n; 64], n));
        }
    }

    #[test]
    fn copies_are_whole_and_never_go_back() {
        let published = placed();
        let stop = AtomicBool::new(false);
        std::thread::scope(|s| {
            let writers = [0; 2].map(|_| {
                s.spawn(|| {
                    for _ in 0..20_000 {
                        published
                            .update(|[n, ..]| [n + 1; 64])
                            .expect("the seat comes back");
                    }
                })
            });
            s.spawn(|| {
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let (value, version) = published.read_with_version();
                    assert_eq!(value, [version; 64], "the value is torn");
                    assert!(version >= last, "{version} after {last}");
                    last = version;
                }
            });
            for writer in writers {
                writer.join().expect("a publisher does not panic");
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(published.version(), 40_000, "no update is lost");
    }

    #[test]
    fn half_written_slot_is_not_read() {
        let published = placed();
        published.publish([1; 64]).expect("it is free");
        // A publisher is killed while it writes version 2.
        published.write(2, [9; 64]);
        assert_eq!(published.read_with_version(), ([1; 64], 1));
        published.publish([2; 64]).expect("it is free");
        assert_eq!(published.read_with_version(), ([2; 64], 2));
    }

    #[test]
    fn panic_in_update_publishes_nothing() {
        let published = placed();
        let panicking = AssertUnwindSafe(|| published.update(|_| panic!("no value")).is_ok());
        assert!(catch_unwind(panicking).is_err());
        assert_eq!(published.publish([1; 64]).expect("the seat was left"), 1);
    }

    #[test]
    fn update_in_update_is_a_deadlock() {
        let published = placed();
        let mut inner = None;
        let outer = published.update(|value| {
            inner = Some(published.publish([7; 64]));
            value
        });
        assert_eq!(outer.expect("it was free"), 1);
        let inner = inner.expect("the closure ran");
        assert!(
            matches!(inner, Err(Error::Lock(LockError::Deadlock))),
            "{inner:?}"
        );
    }

    #[test]
    fn waiter_sees_publication() {
        let published = placed();
        let short = Some(Duration::from_millis(1));
        assert!(!published.wait_newer(0, short).expect("threads may sleep"));
        std::thread::scope(|s| {
            let waiter = s.spawn(|| published.wait_newer(0, None));
            published.publish([1; 64]).expect("it is free");
            assert!(waiter.join().expect("no panic").expect("threads may sleep"));
        });
    }

    #[test]
    fn version_after_the_last_has_another_slot() {
        let published = placed();
        published.version.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(published.publish([1; 64]).expect("it is free"), 1);
        assert_ne!(u64::MAX % SLOTS, 1 % SLOTS);
        assert_eq!(published.read_with_version(), ([1; 64], 1));
    }

    #[test]
    fn numbers_are_documented() {
        type Pair = Published<[u64; 2]>;
        documented::fields!(
            "Published",
            Pair {
                writer,
                version,
                published,
                slots
            },
            [("T", 16)]
        );
    }
}
