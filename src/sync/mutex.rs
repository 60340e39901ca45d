//! `ShmMutex`: mutual exclusion between processes, with the data inside.

use std::fmt;
use std::mem::offset_of;
use std::time::{Duration, Instant};

use super::guard::{MutexCell, ShmMutexGuard};
use super::or_recover::OrRecover;
use super::raw_mutex::{self, RawMutex};
use super::snapshot::Holder;
use crate::error::{Error, LockError, LockResult, PoisonCause};
use crate::os::clock::Deadline;
use crate::os::pthread::Protocol;
use crate::robust::Blocking;
use crate::shm_safe::{
    FieldPath, Parts, SegmentContent, ShmSafe, TearFree, TypeProperties, Visitor,
};

/// A mutex for shared memory, around the data that it guards.
///
/// It is a [`pthread_mutex_t`] inside the mapped value: process-shared, robust,
/// error-checking, or priority-inheriting on request. A C program that maps the same
/// memory can lock it at its address.
///
/// [`pthread_mutex_t`]: https://man7.org/linux/man-pages/man3/pthread_mutexattr_setrobust.3.html
///
/// ```
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
/// *counter.lock()? += 1;
/// assert_eq!(*counter.lock()?, 1);
/// # Ok(())
/// # }
/// ```
///
/// In the cookbook: [a counter](crate::guide::cookbook#a-counter),
/// [a pool of workers](crate::guide::cookbook#a-pool-of-workers),
/// [a C program](crate::guide::cookbook#a-c-program).
///
/// # Crash behaviour
///
/// If a holder dies (by a signal, `exit`, `exec` or the end of its thread) or panics,
/// the next locker in any process gets [`LockError::Poisoned`] with the lock held. So
/// does every later locker, until one of them repairs the data.
/// [`lock_or_recover`](Self::lock_or_recover) locks and repairs in one call:
///
/// ```
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
/// let guard = counter.lock_or_recover(|count, cause| {
///     eprintln!("repairing: {cause}");
///     *count = 0;
/// })?;
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
///
/// A holder that is slow or stopped is not dead, and keeps the lock.
///
/// A holder that crashes and dumps core is dead only when the kernel has written the
/// dump. The next locker waits until then (10 s for a dump of 2.5 GB were seen).
/// `ulimit -c 0` prevents dumps; [`CoreDump::Excluded`](crate::CoreDump::Excluded)
/// keeps a segment out of them.
///
/// If a process dies while unlocking, or just after being woken to lock, the kernel
/// wakes the next waiter. It does not if a third thread has locked in between. Then
/// waiters check the lock again within 250 ms.
///
/// The repairing process needs to know which change was interrupted. Write the change
/// to a journal in the data *before* you make it. The processor keeps the stores of a
/// dead thread in order, but the compiler may not: put a
/// [`compiler_fence(SeqCst)`](std::sync::atomic::compiler_fence) between the journal
/// and the change.
///
/// The kernel misses one case (seen with Linux 6.18): a thread *other than the main
/// thread* calls `exec` with the lock held. The kernel changes the thread's id before
/// it walks the thread's list. The lock stays held, and
/// [`try_lock_for`](Self::try_lock_for) times out. Don't call `exec` with a lock held.
/// [`reset`](Self::reset) makes such a lock usable again.
///
/// [`Poisoned::cause`](crate::Poisoned::cause) names the most recent holder that died
/// or panicked. If that holder was itself repairing, the earlier one is no longer
/// recorded: store the author of the change in your journal.
///
/// # Forks
///
/// A forked child does not hold its parent's locks. An inherited guard does nothing
/// when dropped, and waiting with it fails with [`LockError::NotOwner`]. The child must
/// not access the data through it.
///
/// # Size
///
/// A mutex takes 64 bytes on x86-64, and its data: 40 for the `pthread_mutex_t` (48 on
/// 64-bit Arm with glibc), 8 each for the ids of the holder and for the poison, 4 for
/// the pid namespace, 2 for the number of deaths and panics, and 2 for the options.
/// Neighbours in an array share cache lines. If different processes lock them all the
/// time, wrap each in a [`CachePadded`](crate::CachePadded).
///
/// A segment can have millions of locks. The creator initialises each. Opening reads no
/// lock. If the locks are stale, it reinitialises all of them. Detaching from a large
/// segment looks at the list of held locks of each thread of the process. It looks at
/// the locks themselves only if it can't read these lists.
///
/// # Slices
///
/// One lock can guard a slice whose length is chosen when the segment is created, or a
/// head and a slice. The guard lends them.
///
/// ```
/// use shm_sync::{Segment, SegmentOptions, ShmCondvar, ShmMutex, ShmSafe, WithTail};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-mutex-slice-{}", std::process::id());
/// # let name = name.as_str();
/// type Samples = ShmMutex<[f64]>;
/// let samples = SegmentOptions::new()
///     .create_with_len(name, 1000, |all: &mut Samples| all.get_mut().fill(0.5))?;
/// samples.lock()?[7] += 1.0;
///
/// let same = Segment::<Samples>::open(name)?;
/// assert_eq!(same.lock()?[6..8], [0.5, 1.5]);
/// # shm_sync::unlink(name)?;
///
/// /// What the lock guards besides the slots.
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Used {
///     used: usize,
/// }
///
/// /// The condition variable is beside the lock.
/// type Queue = WithTail<ShmCondvar, ShmMutex<WithTail<Used, [u64]>>>;
/// let options = SegmentOptions::new();
/// let queue = options.anonymous_with_len("queue", 64, |_: &mut Queue| {})?;
/// let mut jobs = queue.tail.lock()?;
/// let WithTail { head, tail: slots } = &mut *jobs;
/// slots[head.used] = 42;
/// head.used += 1;
/// queue.head.notify_one();
/// # Ok(())
/// # }
/// ```
///
/// # Nesting
///
/// The data must not contain locks: a guard gives `&mut` access, which could move an
/// initialised pthread object. Code that makes, opens, reads or locks such a mutex does
/// not compile.
///
/// ```compile_fail,E0080
/// use shm_sync::ShmMutex;
/// let nested = ShmMutex::new(ShmMutex::new(0_u32));
/// ```
#[repr(transparent)]
pub struct ShmMutex<T: ?Sized> {
    cell: MutexCell<T>,
}

const _: () = {
    assert!(
        offset_of!(ShmMutex<u64>, cell.raw) == 0,
        "C programs lock it at its address"
    );
    assert!(size_of::<ShmMutex<u64>>() <= 128);
};

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)` over the lock and the data. The fingerprint covers both.
// * Sync objects: the lock, reported at offset 0. The data has none, or the fingerprint
//   and the walk would not compile.
// * No destructor: the lock has none, and T is ShmSafe.
// * Any bytes are valid as the lock, so zeros and mixtures are valid if they are for T.
unsafe impl<T: ShmSafe> ShmSafe for ShmMutex<T> {
    const PARTS: Parts = {
        let () = Self::DATA_HAS_NO_LOCKS;
        assert!(
            Self::DATA_AT == offset_of!(Self, cell.data),
            "the compiler places the data where `data_in` looks for it"
        );
        Parts {
            kind: "ShmMutex",
            size: size_of::<Self>(),
            align: align_of::<Self>(),
            fields: &[("data", offset_of!(Self, cell.data), T::DESCRIPTION)],
            variants: &[],
        }
    };
    const SYNC_OBJECTS: usize = {
        let () = Self::DATA_HAS_NO_LOCKS;
        1
    };
    const PROPERTIES: TypeProperties = T::PROPERTIES.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        const { Self::DATA_HAS_NO_LOCKS }
        visitor(at, &raw_mutex::MUTEX);
    }
}

// SAFETY: any bytes are valid as the lock, so a mixture is valid if that of the data
// is.
unsafe impl<T: TearFree + ?Sized> TearFree for ShmMutex<T> {}

impl<T: SegmentContent + ?Sized> ShmMutex<T> {
    /// Rejects data with sync objects, because a guard's exclusive access to the data
    /// could move or overwrite them.
    ///
    /// The compiler evaluates this constant where code names it. The constructors, the
    /// fingerprint, the walk and the lock methods name it, so no program can make such
    /// a mutex, open a segment with it, or lock it.
    pub(super) const DATA_HAS_NO_LOCKS: () = assert!(
        !T::HAS_SYNC_OBJECTS,
        "the data of a ShmMutex can't contain locks or condition variables: \
         put them beside it, in the struct that contains the ShmMutex"
    );
    /// The offset of the data in bytes. `offset_of!` does not accept a field without a
    /// fixed size.
    pub(super) const DATA_AT: usize = size_of::<RawMutex>().next_multiple_of(T::ALIGN);
    /// The alignment in bytes.
    pub(super) const MUTEX_ALIGN: usize = if align_of::<RawMutex>() > T::ALIGN {
        align_of::<RawMutex>()
    } else {
        T::ALIGN
    };

    /// Returns where the data of the mutex at `mutex` is.
    pub(super) fn data_in(mutex: *const Self) -> *const T {
        mutex.wrapping_byte_add(Self::DATA_AT) as *const T
    }
}

impl<T: ShmSafe> ShmMutex<T> {
    /// Makes a mutex that a [`Segment`](crate::Segment) or
    /// [`place_at`](crate::place_at) initialises later. Locking it before that fails
    /// with [`LockError::NotPlaced`].
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let counter = ShmMutex::new(7_u64);
    /// assert!(matches!(counter.lock(), Err(LockError::NotPlaced)));
    ///
    /// let counter = Segment::anonymous(counter)?;
    /// assert_eq!(*counter.lock()?, 7);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn new(value: T) -> Self {
        const { Self::DATA_HAS_NO_LOCKS }
        Self::with_protocol(value, Protocol::None)
    }

    /// Makes a mutex with priority inheritance (`PTHREAD_PRIO_INHERIT`), for programs
    /// with real-time priorities. A holder runs at the highest priority of the waiters.
    /// Each contended lock and unlock is a system call.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let counter = Segment::anonymous(ShmMutex::with_priority_inheritance(0_u64))?;
    /// *counter.lock()? += 1;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Before Linux 5.14, a wait ends by the wall clock: if that clock is set back
    /// meanwhile, a timed lock may return later.
    ///
    /// Threads can wait in a cycle, each for a lock that the next thread holds. If one
    /// of them times out or dies, the others may wait up to 250 ms longer.
    ///
    /// A [`PthreadCondvar`](crate::PthreadCondvar) can't wait with such a mutex
    /// ([`LockError::PriorityInheritance`]). A [`ShmCondvar`](crate::ShmCondvar) can.
    ///
    /// # Trust
    ///
    /// Read access to the segment is enough for a `FUTEX_WAIT` on the lock word. While
    /// such a waiter exists, the kernel may refuse to assign the mutex. So a process
    /// with read access can delay all lockers. By `FUTEX_WAIT_REQUEUE_PI` it can keep
    /// them out for as long as it waits. It can't let two threads of this crate in.
    /// Timed locks end in time.
    ///
    /// C code locks through glibc. glibc treats the refusal as success, and aborts the
    /// process if the word names a thread that no longer exists. C code must not lock
    /// the mutex twice, nor close a cycle, because glibc then sleeps for ever. With
    /// musl, C code must not lock such a mutex at all: musl may lock one that the
    /// kernel has just assigned to a waiter.
    #[must_use]
    pub const fn with_priority_inheritance(value: T) -> Self {
        const { Self::DATA_HAS_NO_LOCKS }
        Self::with_protocol(value, Protocol::PriorityInheritance)
    }

    const fn with_protocol(value: T, protocol: Protocol) -> Self {
        Self {
            cell: MutexCell::new(value, protocol),
        }
    }
}

impl<T: SegmentContent + ?Sized> ShmMutex<T> {
    /// Locks, and waits in the kernel until the lock is free.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
    /// let mut count = counter.lock()?;
    /// *count += 1;
    ///
    /// // Waiting for a lock that this thread holds would never end.
    /// assert!(matches!(counter.lock(), Err(LockError::Deadlock)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::Poisoned`]: the lock is held, and the data may be inconsistent.
    /// * [`LockError::Deadlock`]: this thread already holds the lock.
    /// * [`LockError::TooManyLocks`]: this thread holds
    ///   [`MAX_LOCKS_HELD`](crate::MAX_LOCKS_HELD) robust locks, those of C code
    ///   included.
    /// * [`LockError::NotPlaced`], [`LockError::ForeignPidNamespace`],
    ///   [`LockError::NotRecoverable`], [`LockError::Unidentified`],
    ///   [`LockError::Os`]: this process can't use the lock; see there.
    #[inline(always)]
    pub fn lock(&self) -> LockResult<ShmMutexGuard<'_, T>> {
        self.acquire(Blocking::Wait)
    }

    /// Locks. If the lock is poisoned, repairs the data with `repair`, which runs with
    /// the lock held, and then clears the poison.
    ///
    /// [`OrRecover`] does the same for the other calls that lock.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmMutex};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     // The second number is the double of the first.
    ///     let pair = Segment::anonymous(ShmMutex::new((1_u64, 2_u64)))?;
    ///     # std::thread::scope(|s| {
    ///     #     s.spawn(|| {
    ///     #         let mut pair = pair.lock().expect("the lock is free");
    ///     #         pair.0 = 5;
    ///     #         std::mem::forget(pair);
    ///     #     });
    ///     # });
    ///     // A holder has died between two changes.
    ///     let pair = pair.lock_or_recover(|pair, cause| {
    ///         eprintln!("repairing: {cause}");
    ///         pair.1 = 2 * pair.0;
    ///     })?;
    ///     assert_eq!(*pair, (5, 10));
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), as an [`Error`], except
    /// [`Error::Poisoned`].
    ///
    /// # Panics
    ///
    /// If `repair` panics, the lock is released and stays poisoned, now with
    /// [`PoisonCause::Panicked`].
    ///
    /// # Crash behaviour
    ///
    /// If the process dies in `repair`, the lock stays poisoned. The next locker must
    /// repair the changes of both holders.
    #[inline(always)]
    pub fn lock_or_recover(
        &self,
        repair: impl FnOnce(&mut T, PoisonCause),
    ) -> Result<ShmMutexGuard<'_, T>, Error> {
        self.lock().or_recover(repair)
    }

    /// Locks if the lock is free at this moment.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
    /// let guard = counter.try_lock()?;
    /// assert!(matches!(counter.try_lock(), Err(LockError::WouldBlock)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::WouldBlock`]: a thread holds the lock, possibly this one. A call
    ///   that does not wait can't deadlock.
    /// * The errors of [`lock`](Self::lock), except [`LockError::Deadlock`].
    #[inline(always)]
    pub fn try_lock(&self) -> LockResult<ShmMutexGuard<'_, T>> {
        self.acquire(Blocking::Try)
    }

    /// Locks, and waits at most for `timeout`. The wait is in the kernel, by the
    /// monotonic clock. A timeout too long to represent means for ever.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmMutex};
    /// use std::time::{Duration, Instant};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
    /// let guard = counter.lock()?;
    /// std::thread::scope(|s| {
    ///     s.spawn(|| {
    ///         let timed_out = counter.try_lock_for(Duration::from_millis(1));
    ///         assert!(matches!(timed_out, Err(LockError::TimedOut)));
    ///         let timed_out = counter.try_lock_until(Instant::now());
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
    /// * [`LockError::TimedOut`]: another thread held the lock until the timeout.
    /// * Those of [`lock`](Self::lock).
    pub fn try_lock_for(&self, timeout: Duration) -> LockResult<ShmMutexGuard<'_, T>> {
        self.acquire(Blocking::WaitUntil(Deadline::after(timeout)))
    }

    /// Locks, and waits at most until `deadline`: see
    /// [`try_lock_for`](Self::try_lock_for) for details and an example.
    ///
    /// # Errors
    ///
    /// * [`LockError::TimedOut`]: another thread held the lock until the deadline.
    /// * Those of [`lock`](Self::lock).
    pub fn try_lock_until(&self, deadline: Instant) -> LockResult<ShmMutexGuard<'_, T>> {
        self.acquire(Blocking::WaitUntil(Deadline::at(deadline)))
    }

    /// Locks without a system call if the lock is free. The rest is out of line and
    /// makes no guard. So the caller inlines few instructions, and has the guard in
    /// registers: see [`FlaggedToken`](super::robust_lock::FlaggedToken).
    #[inline(always)]
    fn acquire(&self, blocking: Blocking) -> LockResult<ShmMutexGuard<'_, T>> {
        const { Self::DATA_HAS_NO_LOCKS }
        let token = match self.cell.raw.try_lock_fast(blocking) {
            Some(token) => token,
            None => match self.cell.raw.lock_slow(blocking) {
                Ok((token, _)) => token,
                Err(error) => return Err(error.into_lock_error()),
            },
        };
        self.cell.guard(token)
    }
}

impl<T: ?Sized> ShmMutex<T> {
    /// Returns whether the data may be inconsistent: a holder died or panicked, and no
    /// process has repaired the data since. Does not lock, so the answer may be out of
    /// date.
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
    /// let panicked = std::thread::scope(|s| {
    ///     let holder = s.spawn(|| {
    ///         let _guard = counter.lock();
    ///         panic!("with the lock held");
    ///     });
    ///     holder.join().is_err()
    /// });
    /// assert!(panicked && counter.is_poisoned());
    ///
    /// counter.clear_poison();
    /// assert!(!counter.is_poisoned());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.cell.raw.poison_cause().is_some()
    }

    /// Clears the poison without reading the data: see
    /// [`is_poisoned`](Self::is_poisoned) for an example.
    ///
    /// [`Poisoned::recover`](crate::Poisoned::recover) is better, because it holds the
    /// lock during the repair.
    ///
    /// # Crash behaviour
    ///
    /// An owner death that no locker has seen yet is not cleared.
    pub fn clear_poison(&self) {
        self.cell.raw.poison().clear();
    }

    /// Returns the holder at this moment, for diagnosis: see [`Holder`] for an example.
    ///
    /// After an owner death it names the dead holder until the next lock. Returns
    /// `None` if C code holds the lock.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        self.cell.raw.holder()
    }

    /// Returns the data without locking. The exclusive borrow proves that no other
    /// thread accesses it.
    ///
    /// ```
    /// use shm_sync::ShmMutex;
    ///
    /// let mut counter = ShmMutex::new(1);
    /// *counter.get_mut() += 1;
    /// assert_eq!(counter.into_inner(), 2);
    /// ```
    pub fn get_mut(&mut self) -> &mut T {
        self.cell.data.get_mut()
    }

    /// Makes this a mutex [with priority
    /// inheritance](Self::with_priority_inheritance). Call it in the closure that fills
    /// the segment, for a mutex that is created in its final place. After the mutex is
    /// initialised, only a reinitialisation reads this choice.
    ///
    /// ```
    /// use shm_sync::{SegmentOptions, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let samples = SegmentOptions::new()
    ///     .anonymous_with_len("samples", 100, |samples: &mut ShmMutex<[f64]>| {
    ///         samples.set_priority_inheritance();
    ///     })?;
    /// samples.lock()?.fill(0.5);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_priority_inheritance(&mut self) {
        self.cell.raw.set_protocol(Protocol::PriorityInheritance);
    }

    /// Returns the data: see [`get_mut`](Self::get_mut) for an example. Safe code can
    /// call this only on a mutex that was never placed, because it can't move a placed
    /// one.
    pub fn into_inner(self) -> T
    where
        T: Sized,
    {
        self.cell.data.into_inner()
    }

    /// Returns the address of the data, for `unsafe` code and for C.
    ///
    /// Only the holder of the lock may read or write there, and not while a reference
    /// from the holder's guard is in use. The address is valid for as long as the
    /// mutex is. Other processes have the data at other addresses.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let counter = Segment::anonymous(ShmMutex::new(7_u64))?;
    /// let guard = counter.lock()?;
    /// // SAFETY: this thread holds the lock, and no reference to the data exists.
    /// unsafe { *counter.data_ptr() += 1 };
    /// assert_eq!(*guard, 8);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn data_ptr(&self) -> *mut T {
        self.cell.data.get()
    }

    /// Returns the address of the `pthread_mutex_t`, for calls into C. C code that gets
    /// `EOWNERDEAD` must repair the data and call `pthread_mutex_consistent` before it
    /// unlocks.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
    /// let mutex: *mut libc::pthread_mutex_t = counter.as_pthread_ptr().cast();
    /// // SAFETY: the segment keeps the mutex initialised and mapped.
    /// assert_eq!(unsafe { libc::pthread_mutex_lock(mutex) }, 0);
    /// // SAFETY: this thread has locked it.
    /// assert_eq!(unsafe { libc::pthread_mutex_unlock(mutex) }, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// * A repair by C code is final. This crate does not learn of the owner death,
    ///   sets no poison for it, and trusts the data. Poison that was set before stays
    ///   set.
    /// * C code does not see the poison. It may lock while the data is inconsistent.
    /// * If a C program dies with the lock held, the cause has its thread id and
    ///   process id 0, because C code does not record its process id. (If an earlier
    ///   holder had the same thread id by chance, the cause names that holder.)
    /// * If C code dies between `EOWNERDEAD` and its repair, both ids are 0.
    /// * With musl, nothing names a dead thread of C code. Both ids are 0, or those of
    ///   the holder before it, if C code has unlocked or repaired what that holder had
    ///   locked.
    /// * If C code unlocks a mutex that a guard of this crate holds, the guard does
    ///   nothing more: it neither unlocks nor poisons,
    ///   [`recover`](crate::Poisoned::recover) clears no poison, and
    ///   waiting with it fails with [`LockError::NotOwner`]. The data must not be
    ///   accessed through it. A wake-up that
    ///   [`ShmCondvar::notify_one`](crate::ShmCondvar::notify_one) has left to the
    ///   unlock comes up to 250 ms late. Don't do that; and never lock the mutex again
    ///   in the same thread while the guard exists.
    #[must_use]
    pub fn as_pthread_ptr(&self) -> *mut std::ffi::c_void {
        std::ptr::from_ref(&self.cell.raw).cast_mut().cast()
    }

    /// Reinitialises a mutex that no thread can lock any more. The next locker gets
    /// [`LockError::Poisoned`].
    ///
    /// A mutex is in that state after a program outside this crate left it
    /// [`NotRecoverable`](LockError::NotRecoverable), or after its holder ended in the
    /// one way that the kernel misses (see [the crash
    /// behaviour](Self#crash-behaviour)).
    ///
    /// ```
    /// use shm_sync::{LockError, Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
    /// // SAFETY: no other thread or process has the segment, and this one does not hold
    /// // the lock.
    /// unsafe { counter.reset() }?;
    /// assert!(matches!(counter.lock(), Err(LockError::Poisoned(_))));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::NotPlaced`] in [`Error::Lock`]: the mutex is not placed.
    /// * [`Error::Os`]: `pthread_mutex_init` failed.
    ///
    /// # Safety
    ///
    /// * During the call, no thread of any process holds the lock, waits for it or
    ///   tries to lock it.
    pub unsafe fn reset(&self) -> Result<(), Error> {
        if !self.cell.raw.is_initialized() {
            return Err(Error::Lock(LockError::NotPlaced));
        }
        // SAFETY:
        // * The lock stays in its place: it is initialised, and the code that placed it
        //   has promised that it stays.
        // * No thread holds the lock, waits for it or locks it, as the caller promises.
        unsafe { self.cell.raw.reset() }.map_err(|source| Error::Os {
            address: None,
            call: "pthread_mutex_init",
            source,
        })
    }
}

impl<'a, T: SegmentContent + ?Sized> ShmMutexGuard<'a, T> {
    /// Returns the mutex that the guard has locked.
    ///
    /// It is an associated function, because a method would hide a method `mutex` of
    /// the data.
    ///
    /// ```
    /// use shm_sync::{Error, Segment, ShmMutex, ShmMutexGuard};
    ///
    /// /// Unlocks, and locks again.
    /// fn let_others_in(guard: ShmMutexGuard<'_, u64>) -> Result<ShmMutexGuard<'_, u64>, Error> {
    ///     let mutex = ShmMutexGuard::mutex(&guard);
    ///     drop(guard);
    ///     Ok(mutex.lock()?)
    /// }
    ///
    /// # fn main() -> Result<(), Error> {
    /// let counter = Segment::anonymous(ShmMutex::new(7_u64))?;
    /// let guard = let_others_in(counter.lock()?)?;
    /// assert_eq!(*guard, 7);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn mutex(guard: &Self) -> &'a ShmMutex<T> {
        let mutex = std::ptr::from_ref(guard.cell) as *const ShmMutex<T>;
        // SAFETY: `ShmMutex<T>` is `repr(transparent)` over `MutexCell<T>`. So the
        // pointer to the cell is aligned for the mutex, and the value is initialised.
        // The guard borrows the cell for `'a`, so no `&mut` to it exists during `'a`.
        unsafe { &*mutex }
    }
}

impl<T: ShmSafe + Default> Default for ShmMutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ShmSafe> From<T> for ShmMutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: ?Sized> fmt::Debug for ShmMutex<T> {
    /// Shows the state of the lock, but not the data, because that would need the lock.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmMutex")
            .field("placed", &self.cell.raw.is_initialized())
            .field("holder", &self.cell.raw.holder())
            .field("poison", &self.cell.raw.poison_cause())
            .finish_non_exhaustive()
    }
}
