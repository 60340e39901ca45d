//! `ShmMutex`: mutual exclusion between processes, with the data inside.

use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use super::raw_mutex::{self, Holder, LockToken, RawMutex};
use crate::error::{Error, LockError, LockResult, Poisoned};
use crate::os::clock::Deadline;
use crate::os::pthread::Protocol;
use crate::robust::Blocking;
use crate::shm_safe::Fingerprint;
use crate::shm_safe::TypeProperties;
use crate::shm_safe::{FieldPath, ShmSafe, Visitor};

/// A mutex for shared memory, around the data that it guards.
///
/// It is a [`pthread_mutex_t`] inside the mapped value: process-shared, robust,
/// error-checking, or on request priority-inheriting. A C program that maps
/// the same memory can lock it at its address.
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
/// # Crash behaviour
///
/// When a holder dies (by any signal, `exit`, `exec` or the end of its thread)
/// or panics, the next locker, in whatever process, gets
/// [`LockError::Poisoned`] with the lock held, and so does everyone after it
/// until somebody repairs the data:
///
/// ```
/// use shm_sync::{LockError, Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
/// let guard = match counter.lock() {
///     Ok(guard) => guard,
///     Err(LockError::Poisoned(poisoned)) => {
///         eprintln!("repairing: {}", poisoned.cause());
///         poisoned.recover(|count| *count = 0)
///     }
///     Err(other) => return Err(other.into()),
/// };
/// # drop(guard);
/// # Ok(())
/// # }
/// ```
///
/// A holder that is only slow, or stopped, is not dead: nobody gets in.
///
/// A holder that crashes and dumps core is dead only when the kernel has written the
/// dump: the next locker waits until then (10 s for a dump of 2.5 GB were seen).
/// `ulimit -c 0` prevents dumps; [`CoreDump::Excluded`](crate::CoreDump::Excluded)
/// keeps a segment out of them.
///
/// A death while the lock is given back, or of one who was just woken to take it, keeps
/// nobody waiting: the kernel wakes another, and where it does not (somebody else took
/// the lock at that moment), each of those who wait looks by itself, within 250 ms.
///
/// To repair what a dead process left half-changed, one must know what it was
/// about to do: keep a note of it in the data (a journal), written *before* the
/// change. The processor keeps the stores of a dead thread in order, but the
/// compiler may not: put a
/// [`compiler_fence(SeqCst)`](std::sync::atomic::compiler_fence) between the note
/// and the change.
///
/// One end goes unnoticed, because the kernel gives the thread another id before
/// it looks for its locks (measured with Linux 6.18): a thread *other than the
/// main thread* that calls `exec` with the lock held. The lock stays held, and
/// [`try_lock_for`](Self::try_lock_for) times out. Don't `exec` under a lock;
/// [`reset`](Self::reset) is the way out.
///
/// The cause names the last holder that came to grief. If that one was itself
/// repairing after another, the other's name is gone: let the note say whose
/// work it is.
///
/// # Forks
///
/// A forked child does not hold what its parent holds. A guard that it
/// inherits does nothing when dropped, and waiting with it is
/// [`LockError::NotOwner`]; the child must not use the data through it.
///
/// # Nesting
///
/// The data may not contain further locks: a guard gives `&mut` access, by
/// which a live pthread object could be moved. It is a compile error, whether such a
/// mutex is made, opened, looked at or locked.
///
/// ```compile_fail,E0080
/// use shm_sync::ShmMutex;
/// let nested = ShmMutex::new(ShmMutex::new(0_u32));
/// ```
#[repr(C)]
pub struct ShmMutex<T> {
    raw: RawMutex,
    data: UnsafeCell<T>,
}

const _: () = {
    assert!(
        offset_of!(ShmMutex<u64>, raw) == 0,
        "C programs lock it at its address"
    );
    assert!(size_of::<ShmMutex<u64>>() <= 128);
};

// SAFETY: sharing the mutex lets any thread take the data out by exclusive
// access, which moves it between threads but never shares it. So T must be
// Send, and need not be Sync. It is std's bound.
unsafe impl<T: Send> Sync for ShmMutex<T> {}
// SAFETY: a mutex that is moved is inert (a placed one lies in memory that only
// lends it out), so moving it moves the data and nothing else.
unsafe impl<T: Send> Send for ShmMutex<T> {}

// As for std's mutex: a panic inside poisons, so that what it leaves behind is
// not met unawares.
impl<T> UnwindSafe for ShmMutex<T> {}
impl<T> RefUnwindSafe for ShmMutex<T> {}

// SAFETY: the layout is repr(C) over the lock and the data, both covered by the
// fingerprint; the lock is reported at offset 0; the data has no sync objects,
// or the fingerprint and the walk would not compile; nothing has a destructor
// unless T does, and T is ShmSafe. Any bytes are valid as the lock, so zero and
// mixtures are values if those of T are.
unsafe impl<T: ShmSafe> ShmSafe for ShmMutex<T> {
    const FINGERPRINT: Fingerprint = {
        let () = Self::DATA_HAS_NO_LOCKS;
        Fingerprint::of_parts(
            "ShmMutex",
            size_of::<Self>(),
            align_of::<Self>(),
            &[("data", offset_of!(Self, data), T::FINGERPRINT)],
            &[],
        )
    };
    const SYNC_OBJECTS: usize = {
        let () = Self::DATA_HAS_NO_LOCKS;
        1
    };
    const PROPERTIES: TypeProperties = T::PROPERTIES.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, report: &mut Visitor<'_>) {
        const { Self::DATA_HAS_NO_LOCKS }
        report(at, &raw_mutex::MUTEX);
    }
}

impl<T: ShmSafe> ShmMutex<T> {
    /// Refuses data with sync objects.
    ///
    /// A guard gives exclusive access to the data, by which a lock in it could be moved
    /// or overwritten.
    ///
    /// The compiler checks this constant where code names it. The constructors, the
    /// fingerprint, the walk and the locking name it, so no program can make such a
    /// mutex, open a segment with it, or lock it.
    const DATA_HAS_NO_LOCKS: () = assert!(
        T::SYNC_OBJECTS == 0,
        "the data of a ShmMutex can't contain locks or condition variables: \
         put them beside it, in the struct that contains the ShmMutex"
    );

    /// A mutex that is inert until a [`Segment`](crate::Segment) or
    /// [`place_at`](crate::place_at) places it. Locking it before that is
    /// [`LockError::NotPlaced`].
    #[must_use]
    pub const fn new(value: T) -> Self {
        const { Self::DATA_HAS_NO_LOCKS }
        Self::with_protocol(value, Protocol::None)
    }

    /// A mutex with priority inheritance (`PTHREAD_PRIO_INHERIT`), inert until it is
    /// placed: a holder runs at the highest priority of the threads that wait for it. For
    /// programs with real-time priorities. Each contended lock and unlock is a system
    /// call.
    ///
    /// Before Linux 5.14, a wait ends by the wall clock: if that clock is set back
    /// meanwhile, a timed lock may return later.
    ///
    /// Where threads wait in a cycle, each for a lock that the next thread holds, and
    /// one of them gives up or dies, the others may notice up to 150 ms later.
    ///
    /// A [`PthreadCondvar`](crate::PthreadCondvar) can't wait with such a mutex
    /// ([`LockError::PriorityInheritance`]). A [`ShmCondvar`](crate::ShmCondvar) can.
    ///
    /// # Trust
    ///
    /// The kernel refuses to assign such a mutex while another thread waits on its word in
    /// a different way (`FUTEX_WAIT`), for which read access is enough. So a process that
    /// can only read the segment can delay all lockers, and by `FUTEX_WAIT_REQUEUE_PI` keep
    /// them out for as long as it waits. It can't let two in. Timed locks end in time.
    ///
    /// C code that locks such a mutex does so by glibc, which takes that refusal for
    /// success, and ends the process where the holder is lost. C code must not lock it
    /// twice, nor close a cycle: glibc then sleeps for ever.
    #[must_use]
    pub const fn with_priority_inheritance(value: T) -> Self {
        const { Self::DATA_HAS_NO_LOCKS }
        Self::with_protocol(value, Protocol::PriorityInheritance)
    }

    const fn with_protocol(value: T, protocol: Protocol) -> Self {
        Self {
            raw: RawMutex::new(protocol),
            data: UnsafeCell::new(value),
        }
    }

    /// Waits until the lock is free, and takes it. Sleeps in the kernel.
    ///
    /// # Errors
    ///
    /// * [`LockError::Poisoned`]: the lock is held, the data is in doubt.
    /// * [`LockError::Deadlock`]: this thread holds it already.
    /// * [`LockError::TooManyLocks`]: this thread holds
    ///   [`MAX_LOCKS_HELD`](crate::MAX_LOCKS_HELD) robust locks, those of C code included.
    /// * [`LockError::NotPlaced`], [`LockError::ForeignPidNamespace`],
    ///   [`LockError::NotRecoverable`], [`LockError::Unidentified`],
    ///   [`LockError::Os`]: the lock can't be used from here; see there.
    #[inline]
    pub fn lock(&self) -> LockResult<ShmMutexGuard<'_, T>> {
        self.acquire(Blocking::Wait)
    }

    /// Takes the lock if it is free at this moment.
    ///
    /// # Errors
    ///
    /// [`LockError::WouldBlock`] if it is held, also if this very thread holds
    /// it: what does not wait can't deadlock. Otherwise as [`lock`](Self::lock).
    #[inline]
    pub fn try_lock(&self) -> LockResult<ShmMutexGuard<'_, T>> {
        self.acquire(Blocking::Try)
    }

    /// Waits for the lock, but no longer than `timeout`. Sleeps in the kernel;
    /// the clock is monotonic. A timeout too long to represent means for ever.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`] if it stayed held; otherwise as
    /// [`lock`](Self::lock).
    pub fn try_lock_for(&self, timeout: Duration) -> LockResult<ShmMutexGuard<'_, T>> {
        self.acquire(Blocking::WaitUntil(Deadline::after(timeout)))
    }

    /// Waits for the lock, but not past `deadline`.
    ///
    /// # Errors
    ///
    /// [`LockError::TimedOut`] if it stayed held; otherwise as
    /// [`lock`](Self::lock).
    pub fn try_lock_until(&self, deadline: Instant) -> LockResult<ShmMutexGuard<'_, T>> {
        self.acquire(Blocking::WaitUntil(Deadline::at(deadline)))
    }

    /// The fast path of a few lines, the rest out of line: what is inlined into
    /// the caller handles no error.
    #[inline]
    fn acquire(&self, patience: Blocking) -> LockResult<ShmMutexGuard<'_, T>> {
        const { Self::DATA_HAS_NO_LOCKS }
        match self.raw.try_lock_fast(patience) {
            Some(held) => self.guard(held),
            None => self.acquire_slowly(patience),
        }
    }

    #[cold]
    fn acquire_slowly(&self, patience: Blocking) -> LockResult<ShmMutexGuard<'_, T>> {
        match self.raw.lock_slow(patience) {
            Ok((held, _)) => self.guard(held),
            Err(refusal) => Err(refusal.map_guard(|never| match never {})),
        }
    }

    /// Wraps a lock that was taken, and reports the poison with it.
    #[inline]
    pub(super) fn guard(&self, held: LockToken) -> LockResult<ShmMutexGuard<'_, T>> {
        let guard = ShmMutexGuard {
            lock: self,
            held,
            was_panicking: std::thread::panicking(),
            not_send: PhantomData,
        };
        if self.raw.poison.is_set() {
            return Self::report_poison(guard);
        }
        Ok(guard)
    }

    #[cold]
    fn report_poison(guard: ShmMutexGuard<'_, T>) -> LockResult<ShmMutexGuard<'_, T>> {
        match guard.lock.raw.poison.cause() {
            Some(cause) => Err(LockError::Poisoned(Poisoned { guard, cause })),
            None => Ok(guard), // `clear_poison` came between
        }
    }

    /// Whether the data is in doubt: a holder died or panicked, and nobody has
    /// repaired it since. Takes no lock, so the answer may be out of date.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.raw.doubt().is_some()
    }

    /// Where the data of a mutex is.
    pub(super) fn data_in(mutex: *const Self) -> *const T {
        mutex.wrapping_byte_add(offset_of!(Self, data)).cast()
    }

    /// Declares the data sound again without looking at it.
    ///
    /// [`Poisoned::recover`] is the better way: it holds the lock while the
    /// data is repaired.
    ///
    /// # Crash behaviour
    ///
    /// A death that no locker has come across yet is not cleared.
    pub fn clear_poison(&self) {
        self.raw.poison.clear();
    }

    /// Who holds the lock: a snapshot, for diagnosis. After a holder's death
    /// it names the dead until the next lock. `None` if C code holds it.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        self.raw.holder()
    }

    /// The data, without locking: exclusive access proves that nobody else is
    /// there.
    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    /// The data. Only a mutex that was never placed can be had by value.
    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }

    /// The address of the `pthread_mutex_t`, for calls into C. C code that
    /// gets `EOWNERDEAD` must repair the data and call
    /// `pthread_mutex_consistent` before it unlocks.
    ///
    /// * A repair by C code is final: this crate does not learn of the death, sets no
    ///   poison for it, and believes the data. Poison that was set before stays set.
    /// * C code does not see the poison. It may get the lock while the data is in doubt.
    /// * A C program that dies with the lock held is reported by its thread id, with
    ///   process id 0, because it leaves no process id. (If the thread id is that of an
    ///   earlier holder, by chance, that one is named.)
    /// * C code that dies between `EOWNERDEAD` and its repair is reported with both ids 0.
    /// * If C code unlocks what a guard of this crate holds, the guard does nothing more:
    ///   it neither unlocks nor poisons, `recover` clears no poison, and waiting with it
    ///   is [`LockError::NotOwner`]. The data must not be used through it. Don't do that;
    ///   and never lock the mutex again in the same thread while the guard is there.
    #[must_use]
    pub fn as_pthread_ptr(&self) -> *mut std::ffi::c_void {
        std::ptr::from_ref(&self.raw).cast_mut().cast()
    }

    /// Makes a mutex usable again that was lost: one that a foreign program left
    /// [`NotRecoverable`](LockError::NotRecoverable), or whose holder ended in
    /// the one way that the kernel does not report (see [the crash
    /// behaviour](Self#crash-behaviour)). The next locker gets
    /// [`LockError::Poisoned`].
    ///
    /// # Errors
    ///
    /// [`Error::NotPlaced`] if the mutex is not placed; [`Error::Os`] if
    /// pthread refuses.
    ///
    /// # Safety
    ///
    /// No thread of any process holds the lock, waits for it, or tries to take
    /// it while this call runs.
    pub unsafe fn reset(&self) -> Result<(), Error> {
        if !self.raw.is_initialized() {
            return Err(Error::NotPlaced);
        }
        // SAFETY: the caller's promise.
        unsafe { self.raw.reset() }.map_err(|source| Error::Os {
            call: "pthread_mutex_init",
            source,
        })
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

impl<T> fmt::Debug for ShmMutex<T> {
    /// The state of the lock. The data is not shown: that would take the lock.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmMutex")
            .field("placed", &self.raw.is_initialized())
            .field("holder", &self.raw.holder())
            .field("poison", &self.raw.doubt())
            .finish_non_exhaustive()
    }
}

/// Access to the data of a [`ShmMutex`] for as long as this lives.
///
/// A guard that is leaked (`mem::forget`) keeps its lock, and with it the
/// mapping: see [`Segment`](crate::Segment). When its thread ends, the lock
/// passes to the next locker as [`Poisoned`].
#[must_use = "the lock is released at once if the guard is not kept"]
pub struct ShmMutexGuard<'a, T> {
    lock: &'a ShmMutex<T>,
    held: LockToken,
    /// A guard made during a panic does not poison because of that panic.
    was_panicking: bool,
    /// pthread wants the locking thread to unlock.
    not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives `&T` and nothing else.
unsafe impl<T: Sync> Sync for ShmMutexGuard<'_, T> {}

impl<'a, T: ShmSafe> ShmMutexGuard<'a, T> {
    /// Takes the guard apart without unlocking.
    pub(super) fn into_parts(self) -> (&'a ShmMutex<T>, &'a RawMutex, LockToken) {
        let this = std::mem::ManuallyDrop::new(self);
        (this.lock, &this.lock.raw, this.held)
    }
}

impl<T> Deref for ShmMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is held, so only this guard leads to the data.
        unsafe { &*self.lock.data.get() }
    }
}

impl<T> DerefMut for ShmMutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is held, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.data.get() }
    }
}

impl<T> Drop for ShmMutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if std::thread::panicking() && !self.was_panicking {
            self.lock.raw.poison_by_panic(self.held);
        }
        // In a forked child there is nothing to give back, and nothing to say.
        let _ = self.lock.raw.unlock(self.held);
    }
}

impl<T: fmt::Debug> fmt::Debug for ShmMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for ShmMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<'a, T: ShmSafe> Poisoned<ShmMutexGuard<'a, T>> {
    /// Repairs the data, declares it sound, and hands over the guard.
    ///
    /// # Panics
    ///
    /// If `repair` panics, the lock is released and stays poisoned, now with
    /// [`PoisonCause::Panicked`](crate::PoisonCause::Panicked).
    ///
    /// # Crash behaviour
    ///
    /// If the process dies in `repair`, the lock stays poisoned, and the next
    /// locker repairs what both have left.
    pub fn recover(mut self, repair: impl FnOnce(&mut T)) -> ShmMutexGuard<'a, T> {
        repair(&mut self.guard);
        let raw = &self.guard.lock.raw;
        // C code may have given the lock back meanwhile.
        if raw.is_held(self.guard.held) {
            raw.poison.clear();
        }
        self.guard
    }
}
