//! `ShmSemaphore`: a fixed number of permits, which come back if their holders die.
//!
//! # The protocol
//!
//! A permit is a seat. No number of free permits is stored: the seats are counted. So
//! there is nothing that a death could leave wrong.
//!
//! * **acquire**: if no thread is at the gate, takes any free seat. Otherwise, and if
//!   there is none, locks the gate, waits until a seat is free, takes it, and unlocks
//!   the gate. So only one thread waits for seats at a time. A release needs to wake
//!   one, and a thread that collects several permits is not overtaken.
//! * **release**: leaves the seat, and notifies the thread at the gate.
//!
//! # Crash behaviour
//!
//! | death of | what is left | what repairs it |
//! |---|---|---|
//! | holder of a permit | an orphaned seat | the kernel wakes the thread at the gate, which watches the seats; any taker takes it |
//! | releaser, after it has left the seat, before it notifies | a free seat | the kernel or the recheck of the thread at the gate |
//! | thread in the queue for the gate | nothing | |
//! | thread at the gate, with some permits | a gate and seats that the kernel has freed | the next thread at the gate |

use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, offset_of};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use super::event_count::EventCount;
use super::robust_lock::RawLockError;
use super::seat::{Seat, SeatToken, Seats};
use super::turn::Turn;
use crate::error::{Error, LockError};
use crate::os::clock::Deadline;
use crate::os::futex::Wake;
use crate::robust::{Blocking, BoundToThread};
use crate::shm_safe::{FieldPath, Parts, ShmSafe, TearFree, TypeProperties, Visitor};

/// A semaphore of `N` permits in shared memory, which come back if their holders die.
///
/// A permit has an [index](SemaphorePermit::index) below `N` that no other permit has
/// at the same time: the number of the resource, such as a device or a connection.
///
/// ```
/// use shm_sync::{Segment, ShmSemaphore};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// // At most four threads use the four devices at once, one each.
/// // Between programs: `Segment::open_or_create("/devices", ShmSemaphore::<4>::new)`.
/// let devices = Segment::anonymous(ShmSemaphore::<4>::new())?;
/// let permit = devices.acquire()?;
/// if permit.after_death() {
///     println!("the last user of device {} has died: resetting it", permit.index());
/// }
/// println!("using device {}", permit.index());
/// assert_eq!(devices.available(), 3);
/// drop(permit);
/// assert_eq!(devices.available(), 4);
/// # Ok(())
/// # }
/// ```
///
/// A [POSIX semaphore] and a [System V semaphore] count permits. The former loses those
/// of a process that dies. The latter adds them again with `SEM_UNDO`, but does not
/// tell which resource they stood for.
///
/// [POSIX semaphore]: https://man7.org/linux/man-pages/man7/sem_overview.7.html
/// [System V semaphore]: https://man7.org/linux/man-pages/man2/semop.2.html
///
/// A permit belongs to the thread that acquired it, and comes back when the permit is
/// dropped. To let one process signal another, use a [`ShmEvent`](crate::ShmEvent).
///
/// In the cookbook:
/// [at most three at a time](crate::guide::cookbook#at-most-three-at-a-time).
///
/// # Order
///
/// While threads wait for permits, a newcomer waits behind them, also in
/// [`try_acquire`](Self::try_acquire). The waiting threads get the permits one after
/// the other. Their order is that of a [`ShmMutex`](crate::ShmMutex): usually that of
/// their arrival, but it is not guaranteed.
///
/// # Crash behaviour
///
/// A thread that dies with permits (by a signal, `exit`, `exec` or the end of the
/// thread) gives them back. If the kernel has `futex_waitv` (Linux 5.16), it wakes a
/// waiter at once. Otherwise, and if there are more than 127 permits, waiters notice
/// within 250 ms. The next holder of such a permit learns of it once: see
/// [`SemaphorePermit::after_death`].
///
/// | death of | effect |
/// |---|---|
/// | a holder | its permits come back, exactly as many as it had |
/// | a thread in [`acquire_many`](Self::acquire_many) that has some of its permits | the same |
/// | a thread that releases | the permit comes back |
/// | a thread that waits | none; the next thread goes on within 250 ms |
///
/// A holder that is slow or stopped keeps its permit. A waiter that is stopped keeps
/// its place: while it is the next one, no other thread gets a permit. A thread *other
/// than the main thread* that calls `exec` keeps its permit for ever, as with a
/// [`ShmMutex`](crate::ShmMutex#crash-behaviour).
///
/// # Forks
///
/// A forked child does not have its parent's permits. An inherited
/// [`SemaphorePermit`] does nothing when dropped.
#[repr(C)]
pub struct ShmSemaphore<const N: usize> {
    /// The seat of the thread that waits for permits. Other threads queue for it.
    gate: Seat,
    /// The thread at the gate waits here.
    returned: EventCount,
    permits: Seats<N>,
}

const _: () = assert!(
    offset_of!(ShmSemaphore<3>, permits) % align_of::<Seat>() == 0,
    "the permits do not share a cache line with the rest"
);

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)` over seats and atomic words. The size in the fingerprint tells
//   the number of permits.
// * The words have the same meaning in every process, and there is no destructor.
// * Sync objects: the gate and the permits, reported at their offsets.
// * Any bytes are valid, so zeros and mixtures are.
unsafe impl<const N: usize> ShmSafe for ShmSemaphore<N> {
    const PARTS: Parts = Parts::opaque("ShmSemaphore", size_of::<Self>(), align_of::<Self>());
    const SYNC_OBJECTS: usize = 1 + Seats::<N>::SYNC_OBJECTS;
    const PROPERTIES: TypeProperties = TypeProperties::POD.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        Seat::visit(&at.field("gate", offset_of!(Self, gate)), visitor);
        Seats::<N>::visit(&at.field("permits", offset_of!(Self, permits)), visitor);
    }
}

// SAFETY: any bytes are valid.
unsafe impl<const N: usize> TearFree for ShmSemaphore<N> {}

// A panic can't leave it inconsistent, because no user code runs inside.
impl<const N: usize> UnwindSafe for ShmSemaphore<N> {}
impl<const N: usize> RefUnwindSafe for ShmSemaphore<N> {}

impl<const N: usize> ShmSemaphore<N> {
    /// Makes a semaphore whose permits are all free. A [`Segment`](crate::Segment) or
    /// [`place_at`](crate::place_at) initialises it later. Using it before that fails
    /// with [`LockError::NotPlaced`].
    ///
    /// `N` must not be 0:
    ///
    /// ```compile_fail,E0080
    /// let none = shm_sync::ShmSemaphore::<0>::new();
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        Self {
            gate: Seat::new(),
            returned: EventCount::new(),
            permits: Seats::new(),
        }
    }

    /// Acquires a permit, and waits in the kernel until one is free.
    ///
    /// ```
    /// use shm_sync::{Error, LockError, Segment, ShmSemaphore};
    ///
    /// # fn main() -> Result<(), Error> {
    /// let semaphore = Segment::anonymous(ShmSemaphore::<1>::new())?;
    /// let permit = semaphore.acquire()?;
    /// // Waiting for the permit of this thread would never end.
    /// let again = semaphore.acquire();
    /// assert!(matches!(again, Err(Error::Lock(LockError::Deadlock))));
    /// # drop(permit);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::Deadlock`] in [`Error::Lock`]: this thread has all the permits.
    /// * [`LockError::TooManyLocks`] in [`Error::Lock`]: this thread holds
    ///   [`MAX_LOCKS_HELD`](crate::MAX_LOCKS_HELD) robust locks and permits. A call
    ///   that waits, or acquires several permits, needs room for one lock more.
    /// * [`LockError::NotPlaced`] in [`Error::Lock`], [`Error::ForeignPidNamespace`],
    ///   [`LockError::NotRecoverable`] in [`Error::Lock`], [`Error::Unidentified`],
    ///   [`Error::Os`]: this process can't use the semaphore; see there.
    #[inline(always)]
    pub fn acquire(&self) -> Result<SemaphorePermit<'_, N>, Error> {
        self.acquire_one(|| Blocking::Wait)
    }

    /// Acquires a permit, if one is free at this moment and no other thread waits for
    /// one.
    ///
    /// ```
    /// use shm_sync::{Error, LockError, Segment, ShmSemaphore};
    ///
    /// # fn main() -> Result<(), Error> {
    /// let semaphore = Segment::anonymous(ShmSemaphore::<1>::new())?;
    /// let permit = semaphore.try_acquire()?;
    /// let again = semaphore.try_acquire();
    /// assert!(matches!(again, Err(Error::Lock(LockError::WouldBlock))));
    /// # drop(permit);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::WouldBlock`] in [`Error::Lock`]: no permit is free, or a thread
    ///   waits for one or acquires several.
    /// * The errors of [`acquire`](Self::acquire), except `Deadlock`.
    #[inline(always)]
    pub fn try_acquire(&self) -> Result<SemaphorePermit<'_, N>, Error> {
        self.acquire_one(|| Blocking::Try)
    }

    /// Acquires a permit, and waits at most for `timeout`. The wait is in the kernel,
    /// by the monotonic clock. A timeout too long to represent means for ever.
    ///
    /// ```
    /// use shm_sync::{Error, LockError, Segment, ShmSemaphore};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Error> {
    /// let semaphore = Segment::anonymous(ShmSemaphore::<1>::new())?;
    /// std::thread::scope(|s| {
    ///     let permit = semaphore.try_acquire_for(Duration::from_secs(1))?;
    ///     let other = s.spawn(|| semaphore.try_acquire_for(Duration::from_millis(1)).err());
    ///     let error = other.join().expect("the thread does not panic");
    ///     assert!(matches!(error, Some(Error::Lock(LockError::TimedOut))));
    ///     drop(permit);
    ///     Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::TimedOut`] in [`Error::Lock`]: no permit was free in time.
    /// * The errors of [`acquire`](Self::acquire).
    #[inline]
    pub fn try_acquire_for(&self, timeout: Duration) -> Result<SemaphorePermit<'_, N>, Error> {
        self.acquire_one(|| Blocking::WaitUntil(Deadline::after(timeout)))
    }

    /// Acquires a permit, and waits at most until `deadline`. See
    /// [`try_acquire_for`](Self::try_acquire_for).
    ///
    /// ```
    /// use shm_sync::{Segment, ShmSemaphore};
    /// use std::time::{Duration, Instant};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let semaphore = Segment::anonymous(ShmSemaphore::<2>::new())?;
    /// let deadline = Instant::now() + Duration::from_secs(1);
    /// let permit = semaphore.try_acquire_until(deadline)?;
    /// # drop(permit);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`try_acquire_for`](Self::try_acquire_for).
    #[inline]
    pub fn try_acquire_until(&self, deadline: Instant) -> Result<SemaphorePermit<'_, N>, Error> {
        self.acquire_one(|| Blocking::WaitUntil(Deadline::at(deadline)))
    }

    /// Acquires `count` permits, and waits in the kernel until it has them. No other
    /// thread gets a permit in the meantime, so two such calls can't wait for each
    /// other.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmSemaphore};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let semaphore = Segment::anonymous(ShmSemaphore::<4>::new())?;
    /// let permits = semaphore.acquire_many(3)?;
    /// assert_eq!(permits.len(), 3);
    /// assert_eq!(semaphore.available(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Error::TooManyPermits`]: `count` is larger than `N`.
    /// * [`LockError::Deadlock`] in [`Error::Lock`]: this thread has so many permits
    ///   that fewer than `count` are left.
    /// * The errors of [`acquire`](Self::acquire).
    ///
    /// # Crash behaviour
    ///
    /// If the thread dies, all permits that it has collected come back.
    pub fn acquire_many(&self, count: usize) -> Result<Vec<SemaphorePermit<'_, N>>, Error> {
        self.acquire_several(count, Blocking::Wait)
    }

    /// Acquires `count` permits, and waits at most for `timeout`. After a timeout it
    /// has none.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmSemaphore};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let semaphore = Segment::anonymous(ShmSemaphore::<4>::new())?;
    /// let permits = semaphore.try_acquire_many_for(3, Duration::from_secs(1))?;
    /// assert_eq!(permits.len(), 3);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::TimedOut`] in [`Error::Lock`]: not so many permits were free in
    ///   time.
    /// * The errors of [`acquire_many`](Self::acquire_many).
    pub fn try_acquire_many_for(
        &self,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<SemaphorePermit<'_, N>>, Error> {
        self.acquire_several(count, Blocking::WaitUntil(Deadline::after(timeout)))
    }

    /// Returns how many permits are free at this moment.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmSemaphore};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let semaphore = Segment::anonymous(ShmSemaphore::<4>::new())?;
    /// let permit = semaphore.acquire()?;
    /// assert_eq!(semaphore.available(), 3);
    /// # drop(permit);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn available(&self) -> usize {
        self.permits.unoccupied()
    }

    #[inline(always)]
    fn acquire_one(
        &self,
        blocking: impl FnOnce() -> Blocking,
    ) -> Result<SemaphorePermit<'_, N>, Error> {
        if !self.gate.is_occupied() {
            if let Some((index, token)) = self.permits.try_take_usual() {
                return Ok(self.permit(index, token));
            }
        }
        self.acquire_one_slow(blocking())
    }

    #[cold]
    fn acquire_one_slow(&self, blocking: Blocking) -> Result<SemaphorePermit<'_, N>, Error> {
        if !self.gate.is_occupied() {
            if let Some(permit) = self.try_take()? {
                return Ok(permit);
            }
        }
        let mut taken = None;
        self.wait_at_gate(1, blocking, |permit| taken = Some(permit))?;
        taken.ok_or(Error::Lock(LockError::WouldBlock))
    }

    fn acquire_several(
        &self,
        count: usize,
        blocking: Blocking,
    ) -> Result<Vec<SemaphorePermit<'_, N>>, Error> {
        if count > N {
            return Err(Error::TooManyPermits {
                asked: count,
                permits: N,
            });
        }
        let mut permits = Vec::with_capacity(count);
        let result = self.wait_at_gate(count, blocking, |permit| permits.push(permit));
        if let Err(error) = result {
            for permit in permits {
                permit.give_back_unreported();
            }
            return Err(error);
        }
        Ok(permits)
    }

    fn try_take(&self) -> Result<Option<SemaphorePermit<'_, N>>, RawLockError> {
        let taken = self.permits.try_take_any()?;
        Ok(taken.map(|(index, token)| self.permit(index, token)))
    }

    #[inline]
    fn permit(&self, index: usize, token: SeatToken) -> SemaphorePermit<'_, N> {
        SemaphorePermit {
            semaphore: self,
            index,
            token,
            bound: PhantomData,
        }
    }

    /// Calls `keep` with each of `count` permits as this thread gets it.
    #[cold]
    fn wait_at_gate<'a>(
        &'a self,
        count: usize,
        blocking: Blocking,
        mut keep: impl FnMut(SemaphorePermit<'a, N>),
    ) -> Result<(), Error> {
        let waits = !matches!(blocking, Blocking::Try);
        self.gate.check()?;
        self.permits.check()?;
        if waits && count > N - self.permits.occupied_by_this_thread() {
            return Err(Error::Lock(LockError::Deadlock));
        }
        let _gate = Turn::take_to_wait(&self.gate, blocking)?;
        let mut missing = count;
        let mut collect = || -> Option<Result<(), RawLockError>> {
            while missing > 0 {
                match self.try_take() {
                    Ok(Some(permit)) => keep(permit),
                    Ok(None) => return None,
                    Err(error) => return Some(Err(error)),
                }
                missing -= 1;
            }
            Some(Ok(()))
        };
        if let Some(result) = collect() {
            return Ok(result?);
        }
        let deadline = match blocking {
            Blocking::Try => return Err(Error::Lock(LockError::WouldBlock)),
            Blocking::Wait => None,
            Blocking::WaitUntil(deadline) => Some(deadline),
        };
        let looks_answered = || self.available() > 0;
        let watched = self.permits.as_slice();
        let answer = self
            .returned
            .wait(deadline, watched, looks_answered, collect);
        match answer {
            Ok(Some(result)) => Ok(result?),
            Ok(None) => Err(Error::Lock(LockError::TimedOut)),
            Err(error) => Err(RawLockError::Os(error).into()),
        }
    }
}

impl<const N: usize> Default for ShmSemaphore<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for ShmSemaphore<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmSemaphore")
            .field("permits", &N)
            .field("available", &self.available())
            .finish_non_exhaustive()
    }
}

/// A permit of a [`ShmSemaphore`]. Dropping it gives the permit back.
///
/// ```
/// use shm_sync::{Segment, ShmSemaphore};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let semaphore = Segment::anonymous(ShmSemaphore::<2>::new())?;
/// let permits = [semaphore.acquire()?, semaphore.acquire()?];
/// assert_ne!(permits[0].index(), permits[1].index());
/// # Ok(())
/// # }
/// ```
///
/// A leaked permit (`mem::forget`) comes back when its thread ends, and the segment
/// stays mapped until then.
///
/// In the cookbook:
/// [at most three at a time](crate::guide::cookbook#at-most-three-at-a-time).
///
/// # Forks
///
/// The parent has the permit. In a forked child, dropping it does nothing.
#[must_use = "the permit comes back at once if it is not kept"]
pub struct SemaphorePermit<'a, const N: usize> {
    semaphore: &'a ShmSemaphore<N>,
    index: usize,
    token: SeatToken,
    bound: BoundToThread,
}

// SAFETY: a shared permit gives two numbers.
unsafe impl<const N: usize> Sync for SemaphorePermit<'_, N> {}

impl<const N: usize> SemaphorePermit<'_, N> {
    /// Returns the number of the permit. It is below `N`, and no other permit that
    /// exists at this time has it.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns whether the last holder of the permit with this [index](Self::index)
    /// died with it. Then the resource may need repair. Exactly one surviving holder
    /// learns of each death: the next one.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmSemaphore};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let semaphore = Segment::anonymous(ShmSemaphore::<1>::new())?;
    /// std::thread::scope(|s| {
    ///     // The thread ends with the permit, as if it were killed.
    ///     s.spawn(|| std::mem::forget(semaphore.acquire()));
    /// });
    /// assert!(semaphore.acquire()?.after_death());
    /// assert!(!semaphore.acquire()?.after_death());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn after_death(&self) -> bool {
        self.token.after_death
    }

    /// Gives the permit back. Its user has not learned of the death that it reports.
    fn give_back_unreported(self) {
        let this = ManuallyDrop::new(self);
        this.give_back(Seat::leave_unreported);
    }

    #[inline]
    fn give_back(&self, leave: impl FnOnce(&Seat, SeatToken) -> bool) {
        let Some(seat) = self.semaphore.permits.get(self.index) else {
            return;
        };
        if leave(seat, self.token) {
            // Only the thread at the gate waits.
            self.semaphore.returned.notify(Wake::One);
        }
    }
}

impl<const N: usize> Drop for SemaphorePermit<'_, N> {
    #[inline]
    fn drop(&mut self) {
        self.give_back(Seat::leave);
    }
}

impl<const N: usize> fmt::Debug for SemaphorePermit<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SemaphorePermit")
            .field("index", &self.index)
            .field("after_death", &self.after_death())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn numbers_are_documented() {
        type Semaphore = ShmSemaphore<3>;
        documented::fields!(
            "ShmSemaphore",
            Semaphore {
                gate,
                returned,
                permits
            },
            [("N", 3)]
        );
    }
}
