//! `ShmEvent`: a flag on which threads of all processes wait.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::event_count::EventCount;
use super::snapshot::EventState;
use super::wait::WaitTimeoutResult;
use crate::error::{Error, LockError};
use crate::os::clock::Deadline;
use crate::os::futex::Wake;
use crate::shm_safe::{
    FieldPath, Parts, ShmSafe, SyncKind, SyncOps, TearFree, TypeProperties, Visitor,
};

/// An event in shared memory: a flag that threads set, reset and wait for.
///
/// | kind | a wait that finds the event set |
/// |---|---|
/// | [`manual_reset`](Self::manual_reset) | leaves it set: all waiters go on, until [`reset`](Self::reset) |
/// | [`auto_reset`](Self::auto_reset) | resets it: one waiter goes on |
///
/// It is the [event object] of Windows. A thread that sets an event twice before a
/// waiter has seen it has set it once. A waiter may miss an event that is set and reset
/// at once.
///
/// [event object]: https://learn.microsoft.com/en-us/windows/win32/sync/event-objects
///
/// ```
/// use shm_sync::{Segment, ShmEvent};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// // Between programs: `Segment::open_or_create("/stop", ShmEvent::manual_reset)`.
/// let stop = Segment::anonymous(ShmEvent::manual_reset())?;
/// std::thread::scope(|s| {
///     let waiters = [0; 2].map(|_| s.spawn(|| stop.wait()));
///     stop.set()?;
///     for waiter in waiters {
///         waiter.join().expect("a waiter does not panic")?;
///     }
///     assert!(stop.is_set());
///     Ok(())
/// })
/// # }
/// ```
///
/// What a thread has written before [`set`](Self::set) is visible to a waiter that goes
/// on because of it.
///
/// # Crash behaviour
///
/// Any process may be killed at any instruction.
///
/// | death of | effect |
/// |---|---|
/// | a thread in `set`, before the flag is set | the event is not set |
/// | a thread in `set`, after that | the event is set; waiters go on within 250 ms |
/// | a waiter that an automatic event has let go on | the event is reset: it had its turn |
/// | a waiter, at any other point | none; another waiter goes on within 250 ms |
///
/// There is no owner, so no death is reported. For that, use a
/// [`ShmLifeline`](crate::ShmLifeline).
///
/// # Forks
///
/// In shared memory, parent and child use the same event. It may be used in all pid
/// namespaces.
#[repr(C)]
pub struct ShmEvent {
    /// [`CLEAR`], or any other value: set.
    state: AtomicU32,
    /// [`kind`] bits. Read-only after initialisation.
    kind: AtomicU32,
    waiters: EventCount,
}

const CLEAR: u32 = 0;
const SET: u32 = 1;

/// The bits of [`ShmEvent::kind`].
mod kind {
    /// A waiter that goes on resets the event.
    pub(super) const AUTO_RESET: u32 = 1;
    /// The event is initialised in its place.
    pub(super) const PLACED: u32 = 2;
}

const _: () = assert!(size_of::<ShmEvent>() == 24);

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)` over atomic words, whose size is in the fingerprint.
// * The words have the same meaning in every process, and there is no destructor.
// * Sync objects: itself, reported at offset 0.
// * Any bytes are valid, so zeros and mixtures are.
unsafe impl ShmSafe for ShmEvent {
    const PARTS: Parts = Parts::opaque("ShmEvent", size_of::<Self>(), align_of::<Self>());
    const SYNC_OBJECTS: usize = 1;
    const PROPERTIES: TypeProperties = TypeProperties::POD.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        visitor(at, &EVENT);
    }
}

// SAFETY: any bytes are valid.
unsafe impl TearFree for ShmEvent {}

static EVENT: SyncOps = SyncOps {
    kind: SyncKind::Event,
    size: size_of::<ShmEvent>(),
    init_zeroed: |at| {
        // SAFETY: the bytes are writable, aligned and long enough for a ShmEvent, as
        // the caller of the field promises.
        unsafe { at.cast::<ShmEvent>().write(ShmEvent::manual_reset()) };
    },
    init: |at, _| {
        // SAFETY: a ShmEvent lies at `at`, as the caller of the field promises.
        let event = unsafe { &*at.cast::<ShmEvent>() };
        event.kind.fetch_or(kind::PLACED, Ordering::Release);
        Ok(())
    },
    reinit: |at, _| {
        // SAFETY: a ShmEvent lies at `at`, as the caller of the field promises. It
        // consists of atomic words, for which any bytes are valid.
        let event = unsafe { &*at.cast::<ShmEvent>() };
        event.waiters.reset();
        event.kind.fetch_or(kind::PLACED, Ordering::Release);
        Ok(())
    },
    is_held_by_this_process: |_| false,
};

impl ShmEvent {
    /// Makes an event that stays set until [`reset`](Self::reset). It is not set.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmEvent};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let ready = Segment::anonymous(ShmEvent::manual_reset())?;
    /// ready.set()?;
    /// ready.wait()?;
    /// ready.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn manual_reset() -> Self {
        Self::new(0)
    }

    /// Makes an event that a waiter resets when it goes on. It is not set.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmEvent};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let turn = Segment::anonymous(ShmEvent::auto_reset())?;
    /// turn.set()?;
    /// turn.wait()?;
    /// assert!(turn.wait_timeout(Duration::from_millis(1))?.timed_out());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn auto_reset() -> Self {
        Self::new(kind::AUTO_RESET)
    }

    const fn new(kind: u32) -> Self {
        Self {
            state: AtomicU32::new(CLEAR),
            kind: AtomicU32::new(kind),
            waiters: EventCount::new(),
        }
    }

    /// Sets the event. Wakes all waiters, or one if the event resets itself. Never
    /// blocks.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmEvent};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let ready = Segment::anonymous(ShmEvent::manual_reset())?;
    /// ready.set()?;
    /// assert!(ready.is_set());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LockError::NotPlaced`] in [`Error::Lock`]: the event is a value in ordinary
    /// memory.
    ///
    /// # Crash behaviour
    ///
    /// If the process dies after it has set the flag and before it has woken a waiter,
    /// the waiters go on within 250 ms.
    #[inline]
    pub fn set(&self) -> Result<(), Error> {
        self.check()?;
        // SeqCst: `EventCount` demands it of the caller of `notify`.
        self.state.swap(SET, Ordering::SeqCst);
        // Also if the event was set: the thread that has set it may have died.
        self.waiters.notify(if self.resets_itself() {
            Wake::One
        } else {
            Wake::All
        });
        Ok(())
    }

    /// Resets the event. Later waiters wait until it is set again.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmEvent};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let ready = Segment::anonymous(ShmEvent::manual_reset())?;
    /// ready.set()?;
    /// ready.reset();
    /// assert!(!ready.is_set());
    /// # Ok(())
    /// # }
    /// ```
    pub fn reset(&self) {
        self.state.store(CLEAR, Ordering::SeqCst);
    }

    /// Returns whether the event is set at this moment. Does not reset it.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.state.load(Ordering::SeqCst) != CLEAR
    }

    /// Returns whether the event is set. Resets it if it resets itself. Does not wait.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmEvent};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let turn = Segment::anonymous(ShmEvent::auto_reset())?;
    /// turn.set()?;
    /// assert!(turn.try_wait()?);
    /// assert!(!turn.try_wait()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LockError::NotPlaced`] in [`Error::Lock`]: the event is a value in ordinary
    /// memory.
    #[inline]
    pub fn try_wait(&self) -> Result<bool, Error> {
        self.check()?;
        Ok(self.pass())
    }

    /// Waits until the event is set. Resets it if it resets itself.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmEvent};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let turns = Segment::anonymous([const { ShmEvent::auto_reset() }; 2])?;
    /// std::thread::scope(|s| {
    ///     s.spawn(|| -> Result<(), shm_sync::Error> {
    ///         turns[0].wait()?;
    ///         turns[1].set()
    ///     });
    ///     turns[0].set()?;
    ///     turns[1].wait()
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::NotPlaced`] in [`Error::Lock`]: the event is a value in ordinary
    ///   memory.
    /// * [`Error::Os`]: the kernel refuses to let the thread sleep, for example by a
    ///   seccomp filter.
    ///
    /// # Crash behaviour
    ///
    /// If a waiter of an automatic event dies after it was woken and before it has
    /// reset the event, another waiter goes on within 250 ms.
    #[inline]
    pub fn wait(&self) -> Result<(), Error> {
        self.wait_until(None).map(|_| ())
    }

    /// Waits until the event is set, at most for `timeout`. Resets it if it resets
    /// itself. The wait is in the kernel, by the monotonic clock. A timeout too long to
    /// represent means for ever.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmEvent};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let ready = Segment::anonymous(ShmEvent::manual_reset())?;
    /// let result = ready.wait_timeout(Duration::from_millis(1))?;
    /// assert!(result.timed_out());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`wait`](Self::wait).
    #[inline]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<WaitTimeoutResult, Error> {
        self.check()?;
        if self.pass() {
            return Ok(WaitTimeoutResult { timed_out: false });
        }
        self.wait_until(Some(Deadline::after(timeout)))
    }

    fn wait_until(&self, deadline: Option<Deadline>) -> Result<WaitTimeoutResult, Error> {
        self.check()?;
        if self.pass() {
            return Ok(WaitTimeoutResult { timed_out: false });
        }
        let question = || self.pass().then_some(());
        let answer = self
            .waiters
            .wait(deadline, &[], || self.is_set(), question)
            .map_err(|error| Error::from(LockError::<()>::Os(error)))?;
        Ok(WaitTimeoutResult {
            timed_out: answer.is_none(),
        })
    }

    /// Returns whether this thread goes on. Resets the event if it resets itself.
    #[inline]
    fn pass(&self) -> bool {
        // The load spares the cache line while the event is not set.
        self.is_set()
            && (!self.resets_itself() || self.state.swap(CLEAR, Ordering::SeqCst) != CLEAR)
    }

    #[inline]
    fn resets_itself(&self) -> bool {
        self.kind.load(Ordering::Relaxed) & kind::AUTO_RESET != 0
    }

    #[inline]
    fn check(&self) -> Result<(), Error> {
        if self.kind.load(Ordering::Acquire) & kind::PLACED == 0 {
            return Err(Error::Lock(LockError::NotPlaced));
        }
        Ok(())
    }

    /// Describes the event by its words. Any words are valid.
    pub(super) fn state(&self) -> EventState {
        EventState {
            is_set: self.is_set(),
            resets_itself: self.resets_itself(),
            waiters: self.waiters.waiters(),
        }
    }
}

impl fmt::Debug for ShmEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmEvent")
            .field("placed", &self.check().is_ok())
            .field("set", &self.is_set())
            .field("resets_itself", &self.resets_itself())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn numbers_are_documented() {
        documented::fields!(
            "ShmEvent",
            ShmEvent {
                state,
                kind,
                waiters
            }
        );
        documented::values(
            "state of a ShmEvent",
            &[("CLEAR", CLEAR.into()), ("SET", SET.into())],
        );
        documented::bits(
            "kind of a ShmEvent",
            &[
                ("AUTO_RESET", kind::AUTO_RESET.into()),
                ("PLACED", kind::PLACED.into()),
            ],
        );
    }
}
