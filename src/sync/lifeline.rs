//! `ShmLifeline`: tells other processes that a thread is there, and at once when it has
//! ended or died.
//!
//! A lifeline is a seat, and an event count for those that wait for its end. The note
//! of the seat is:
//!
//! | bits | meaning |
//! |---|---|
//! | 0–31 | number of the present or last holding; 0: there was none |
//! | 32 | that holding has ended by the drop of its guard |
//! | 33 | the holding before it ended by death |
//!
//! A holder stores its note after it has taken the seat, and marks it before it leaves.
//! So a waiter that looks late, when the next holder is there already, still learns how
//! the holding has ended for which it has waited.
//!
//! | a holder dies | waiters get | the next holder learns of a death |
//! |---|---|---|
//! | in `hold`, before it stores its note | the end of the holding before it | if that one has died |
//! | after that, and before its guard marks the note | `Died` | yes |
//! | after the mark | `Ended` | no |

use std::fmt;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::slice;
use std::time::Duration;

use super::event_count::EventCount;
use super::robust_lock::RawLockError;
use super::seat::{Seat, SeatToken, Seats};
use super::snapshot::Holder;
use crate::error::{Error, LockError};
use crate::os::clock::Deadline;
use crate::os::futex::Wake;
use crate::robust::BoundToThread;
use crate::shm_safe::{FieldPath, Parts, ShmSafe, TearFree, TypeProperties, Visitor};

/// How a wait for the end of a lifeline's holder ended.
///
/// In the cookbook:
/// [the death of another process](crate::guide::cookbook#the-death-of-another-process).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The holder has dropped its [`LifelineGuard`].
    Ended,
    /// The holder has died with the guard: by a signal, `exit`, `exec` of the main
    /// thread, or the end of its thread.
    Died,
    /// The holder was still there when the timeout had passed.
    TimedOut,
}

/// The note of a holder: see the module documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HolderNote(u64);

impl HolderNote {
    const ENDED: u64 = 1 << 32;
    const AFTER_DEATH: u64 = 1 << 33;

    fn number(self) -> u32 {
        self.0 as u32
    }

    fn is_ended(self) -> bool {
        self.0 & Self::ENDED != 0
    }

    fn is_after_death(self) -> bool {
        self.0 & Self::AFTER_DEATH != 0
    }

    /// Returns whether the holding of this note goes on, as far as the note tells.
    fn is_open(self) -> bool {
        self.number() != 0 && !self.is_ended()
    }

    fn ended(self) -> Self {
        Self(self.0 | Self::ENDED)
    }

    /// Returns the note of the next holding.
    fn next(self, after_death: bool) -> Self {
        let number = self.number().wrapping_add(1).max(1);
        let flag = if after_death { Self::AFTER_DEATH } else { 0 };
        Self(u64::from(number) | flag)
    }
}

/// A lifeline: its seat, and the place where threads wait for the end.
#[derive(Clone, Copy)]
struct Line<'a> {
    seat: &'a Seat,
    changed: &'a EventCount,
}

impl<'a> Line<'a> {
    fn note(self) -> HolderNote {
        HolderNote(self.seat.note())
    }

    /// Completes a hold: this thread has taken the seat.
    fn hold(self, token: SeatToken, index: usize) -> LifelineGuard<'a> {
        let last = self.note();
        let after_death = token.after_death && last.is_open();
        let note = last.next(after_death);
        self.seat.set_note(&token, note.0);
        self.changed.notify(Wake::All);
        LifelineGuard {
            line: self,
            index,
            token,
            note,
            bound: PhantomData,
        }
    }

    fn is_alive(self) -> bool {
        self.note().is_open() && self.seat.is_occupied()
    }

    /// Returns how the holding has ended that `awaited` names, if it has. If `awaited`
    /// is `None`, it becomes the present or last holding, or the first one.
    fn end(self, awaited: &mut Option<u32>) -> Option<End> {
        loop {
            let note = self.note();
            let awaited = *awaited.get_or_insert(note.number().max(1));
            if note.number() == 0 {
                return None;
            }
            if note.number() != awaited {
                return Some(if note.is_after_death() {
                    End::Died
                } else {
                    End::Ended
                });
            }
            if note.is_ended() {
                return Some(End::Ended);
            }
            if self.seat.is_occupied() {
                return None;
            }
            // The holder has died, unless it has ended since the note was read.
            if self.note() == note {
                return Some(End::Died);
            }
        }
    }

    fn wait_for_end(self, timeout: Option<Duration>) -> Result<End, Error> {
        if !self.seat.is_placed() {
            return Err(Error::Lock(LockError::NotPlaced));
        }
        // This makes a seat vacant that a fork has copied. Waiting needs no right to
        // hold, so errors do not matter, with one exception: in another pid namespace,
        // the thread id in the seat means another thread.
        let is_foreign = matches!(self.seat.check(), Err(LockError::ForeignPidNamespace));
        let mut awaited = None;
        if let Some(end) = self.end(&mut awaited) {
            return Ok(end);
        }
        if !is_foreign && self.seat.is_occupied_by_this_thread() {
            return Err(Error::Lock(LockError::Deadlock));
        }
        let deadline = timeout.map(Deadline::after);
        let first = awaited;
        let looks_answered = || self.end(&mut { first }).is_some();
        let watched = slice::from_ref(self.seat);
        let answer = self
            .changed
            .wait(deadline, watched, looks_answered, || self.end(&mut awaited));
        match answer {
            Ok(end) => Ok(end.unwrap_or(End::TimedOut)),
            Err(error) => Err(RawLockError::Os(error).into()),
        }
    }
}

/// A lifeline in shared memory: one thread holds it, and others are told at once when
/// that thread drops it or dies.
///
/// ```
/// use shm_sync::{End, Segment, ShmLifeline};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// // Between programs: `Segment::open_or_create("/worker", ShmLifeline::new)`.
/// let worker = Segment::anonymous(ShmLifeline::new())?;
/// std::thread::scope(|s| {
///     s.spawn(|| {
///         let guard = worker.hold();
///         // The thread ends without dropping the guard, as if it were killed.
///         std::mem::forget(guard);
///     });
///     assert_eq!(worker.wait_for_end(None)?, End::Died);
///     Ok::<(), shm_sync::Error>(())
/// })?;
///
/// let next = worker.hold()?;
/// assert!(worker.is_alive());
/// assert!(next.after_death());
/// drop(next);
/// assert!(!worker.is_alive());
/// assert_eq!(worker.wait_for_end(None)?, End::Ended);
/// # Ok(())
/// # }
/// ```
///
/// A process id does not do this: the kernel reuses it, and [`kill(2)`] with signal 0
/// reports a process that has called `exec` as present. Nor does a timeout: a slow
/// process is not dead.
///
/// [`kill(2)`]: https://man7.org/linux/man-pages/man2/kill.2.html
///
/// In the cookbook:
/// [the death of another process](crate::guide::cookbook#the-death-of-another-process).
///
/// # Crash behaviour
///
/// If the holder dies (by a signal, `exit`, `exec` or the end of its thread), the
/// kernel marks the lifeline and wakes a waiter, which wakes the others. Before Linux
/// 5.16, the waiters notice within 250 ms. A holder that is stopped is there.
///
/// A waiter may be killed at any instruction. If the kernel has just woken this waiter
/// for a death, the other waiters notice the death within 250 ms.
///
/// A holder that dumps core is dead only when the kernel has written the dump. If a
/// holder calls `exec` in another thread than the main thread, the lifeline stays held
/// for ever, as with a [`ShmMutex`](crate::ShmMutex#crash-behaviour).
///
/// # Forks
///
/// A forked child does not hold its parent's lifeline. An inherited [`LifelineGuard`]
/// does nothing when dropped.
#[repr(C)]
pub struct ShmLifeline {
    holder: Seat,
    changed: EventCount,
}

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)` over a seat and atomic words. The fingerprint has the size.
// * The words have the same meaning in every process, and there is no destructor.
// * Sync objects: the seat, reported at its offset.
// * Any bytes are valid, so zeros and mixtures are.
unsafe impl ShmSafe for ShmLifeline {
    const PARTS: Parts = Parts::opaque("ShmLifeline", size_of::<Self>(), align_of::<Self>());
    const SYNC_OBJECTS: usize = 1;
    const PROPERTIES: TypeProperties = TypeProperties::POD.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        Seat::visit(&at.field("holder", offset_of!(Self, holder)), visitor);
    }
}

// SAFETY: any bytes are valid.
unsafe impl TearFree for ShmLifeline {}

// A panic can't leave it inconsistent, because no user code runs inside.
impl UnwindSafe for ShmLifeline {}
impl RefUnwindSafe for ShmLifeline {}

impl ShmLifeline {
    /// Makes a lifeline that no thread holds. A [`Segment`](crate::Segment) or
    /// [`place_at`](crate::place_at) initialises it later. Using it before that fails
    /// with [`LockError::NotPlaced`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            holder: Seat::new(),
            changed: EventCount::new(),
        }
    }

    fn line(&self) -> Line<'_> {
        Line {
            seat: &self.holder,
            changed: &self.changed,
        }
    }

    /// Holds the lifeline until the guard is dropped, or this thread ends. Does not
    /// wait for another holder.
    ///
    /// ```
    /// use shm_sync::{Error, LockError, Segment, ShmLifeline};
    ///
    /// # fn main() -> Result<(), Error> {
    /// let leader = Segment::anonymous(ShmLifeline::new())?;
    /// let guard = leader.hold()?;
    /// let other = leader.hold();
    /// assert!(matches!(other, Err(Error::Lock(LockError::WouldBlock))));
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::WouldBlock`] in [`Error::Lock`]: a thread holds it, possibly this
    ///   one.
    /// * [`LockError::TooManyLocks`] in [`Error::Lock`]: this thread holds
    ///   [`MAX_LOCKS_HELD`](crate::MAX_LOCKS_HELD) robust locks and lifelines.
    /// * [`LockError::NotPlaced`] in [`Error::Lock`], [`Error::ForeignPidNamespace`],
    ///   [`LockError::NotRecoverable`] in [`Error::Lock`], [`Error::Unidentified`],
    ///   [`Error::Os`]: this process can't use the lifeline; see there.
    pub fn hold(&self) -> Result<LifelineGuard<'_>, Error> {
        self.holder.check()?;
        let taken = self.holder.try_take()?;
        let token = taken.ok_or(Error::Lock(LockError::WouldBlock))?;
        Ok(self.line().hold(token, 0))
    }

    /// Returns whether a thread holds the lifeline at this moment.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmLifeline};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let worker = Segment::anonymous(ShmLifeline::new())?;
    /// assert!(!worker.is_alive());
    /// let guard = worker.hold()?;
    /// assert!(worker.is_alive());
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.line().is_alive()
    }

    /// Returns the thread that holds the lifeline at this moment.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmLifeline};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let worker = Segment::anonymous(ShmLifeline::new())?;
    /// let guard = worker.hold()?;
    /// let holder = worker.holder().expect("this thread holds it");
    /// assert_eq!(holder.pid, std::process::id());
    /// # drop(guard);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        self.holder.occupant().filter(|_| self.holder.is_occupied())
    }

    /// Waits until the holder has ended or died, at most for `timeout`. `None` means
    /// for ever.
    ///
    /// * If a thread holds the lifeline, it waits for the end of that thread's holding,
    ///   although other threads may hold it later.
    /// * If the last holder has ended or died, it returns that at once.
    /// * If no thread has ever held the lifeline, it waits for the first holder as
    ///   well, because a process that was just started may not hold it yet.
    ///
    /// ```
    /// use shm_sync::{End, Segment, ShmLifeline};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let worker = Segment::anonymous(ShmLifeline::new())?;
    /// let end = worker.wait_for_end(Some(Duration::from_millis(1)))?;
    /// assert_eq!(end, End::TimedOut);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A waiter may get no processor while several later holders take and leave the
    /// lifeline. Then the call returns how the last but one holding has ended.
    ///
    /// # Errors
    ///
    /// * [`LockError::Deadlock`] in [`Error::Lock`]: this thread holds the lifeline.
    /// * [`LockError::NotPlaced`] in [`Error::Lock`]: it is a value in ordinary memory.
    /// * [`Error::Os`]: the kernel refuses to let the thread sleep, for example by a
    ///   seccomp filter.
    pub fn wait_for_end(&self, timeout: Option<Duration>) -> Result<End, Error> {
        self.line().wait_for_end(timeout)
    }
}

impl Default for ShmLifeline {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ShmLifeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmLifeline")
            .field("alive", &self.is_alive())
            .field("holder", &self.holder())
            .finish_non_exhaustive()
    }
}

/// `N` lifelines in shared memory, for the members of a group. A thread holds any one
/// of them that is free.
///
/// ```
/// use shm_sync::{End, Lifelines, Segment};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let workers = Segment::anonymous(Lifelines::<8>::new())?;
/// let guard = workers.hold()?;
/// let number = guard.index();
/// assert_eq!(workers.alive(), 1);
/// assert!(workers.is_alive(number));
/// drop(guard);
/// assert_eq!(workers.wait_for_end(number, None)?, End::Ended);
/// # Ok(())
/// # }
/// ```
///
/// Each is like a [`ShmLifeline`]. They share the place where threads wait: a holder
/// that comes or ends wakes the waiters of all of them.
///
/// In the cookbook:
/// [the death of another process](crate::guide::cookbook#the-death-of-another-process).
#[repr(C)]
pub struct Lifelines<const N: usize> {
    changed: EventCount,
    holders: Seats<N>,
}

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)` over seats and atomic words. The size in the fingerprint tells
//   the number of lifelines.
// * The words have the same meaning in every process, and there is no destructor.
// * Sync objects: the seats, reported at their offsets.
// * Any bytes are valid, so zeros and mixtures are.
unsafe impl<const N: usize> ShmSafe for Lifelines<N> {
    const PARTS: Parts = Parts::opaque("Lifelines", size_of::<Self>(), align_of::<Self>());
    const SYNC_OBJECTS: usize = Seats::<N>::SYNC_OBJECTS;
    const PROPERTIES: TypeProperties = TypeProperties::POD.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        Seats::<N>::visit(&at.field("holders", offset_of!(Self, holders)), visitor);
    }
}

// SAFETY: any bytes are valid.
unsafe impl<const N: usize> TearFree for Lifelines<N> {}

// A panic can't leave it inconsistent, because no user code runs inside.
impl<const N: usize> UnwindSafe for Lifelines<N> {}
impl<const N: usize> RefUnwindSafe for Lifelines<N> {}

impl<const N: usize> Lifelines<N> {
    /// Makes lifelines that no thread holds. A [`Segment`](crate::Segment) or
    /// [`place_at`](crate::place_at) initialises them later. `N` must not be 0.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            changed: EventCount::new(),
            holders: Seats::new(),
        }
    }

    /// Returns the lifeline with this number.
    ///
    /// # Panics
    ///
    /// `index` is not below `N`.
    #[track_caller]
    fn line(&self, index: usize) -> Line<'_> {
        let Some(seat) = self.holders.get(index) else {
            panic!("there is no lifeline {index}, because there are {N}");
        };
        Line {
            seat,
            changed: &self.changed,
        }
    }

    /// Holds any lifeline that no living thread holds, until the guard is dropped or
    /// this thread ends. Does not wait.
    ///
    /// ```
    /// use shm_sync::{Error, Lifelines, LockError, Segment};
    ///
    /// # fn main() -> Result<(), Error> {
    /// let workers = Segment::anonymous(Lifelines::<2>::new())?;
    /// let guards = [workers.hold()?, workers.hold()?];
    /// assert_ne!(guards[0].index(), guards[1].index());
    /// let third = workers.hold();
    /// assert!(matches!(third, Err(Error::Lock(LockError::WouldBlock))));
    /// # drop(guards);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::WouldBlock`] in [`Error::Lock`]: all of them are held.
    /// * The other errors of [`ShmLifeline::hold`].
    pub fn hold(&self) -> Result<LifelineGuard<'_>, Error> {
        self.holders.check()?;
        let taken = self.holders.try_take_any()?;
        let (index, token) = taken.ok_or(Error::Lock(LockError::WouldBlock))?;
        Ok(self.line(index).hold(token, index))
    }

    /// Returns how many of the lifelines are held at this moment.
    #[must_use]
    pub fn alive(&self) -> usize {
        (0..N).filter(|index| self.is_alive(*index)).count()
    }

    /// Returns whether a thread holds this lifeline at this moment.
    ///
    /// # Panics
    ///
    /// `index` is not below `N`.
    #[must_use]
    pub fn is_alive(&self, index: usize) -> bool {
        self.line(index).is_alive()
    }

    /// Waits until the holder of this lifeline has ended or died: see
    /// [`ShmLifeline::wait_for_end`].
    ///
    /// # Errors
    ///
    /// Those of [`ShmLifeline::wait_for_end`].
    ///
    /// # Panics
    ///
    /// `index` is not below `N`.
    pub fn wait_for_end(&self, index: usize, timeout: Option<Duration>) -> Result<End, Error> {
        self.line(index).wait_for_end(timeout)
    }
}

impl<const N: usize> Default for Lifelines<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for Lifelines<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifelines")
            .field("lifelines", &N)
            .field("alive", &self.alive())
            .finish_non_exhaustive()
    }
}

/// Holds a [`ShmLifeline`], or one of [`Lifelines`]. Dropping it ends the holding.
///
/// A leaked guard (`mem::forget`) holds on until its thread ends, which then counts as
/// a death. The segment stays mapped until then.
///
/// # Forks
///
/// The parent holds the lifeline. In a forked child, dropping the guard does nothing.
#[must_use = "the holding ends at once if the guard is not kept"]
pub struct LifelineGuard<'a> {
    line: Line<'a>,
    index: usize,
    token: SeatToken,
    note: HolderNote,
    bound: BoundToThread,
}

// SAFETY: a shared guard gives a number and an answer.
unsafe impl Sync for LifelineGuard<'_> {}

impl LifelineGuard<'_> {
    /// Returns which of the [`Lifelines`] this is. It is 0 for a [`ShmLifeline`].
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns whether the last holder died. Exactly one surviving holder learns of
    /// each death: the next one.
    #[must_use]
    pub fn after_death(&self) -> bool {
        self.note.is_after_death()
    }
}

impl Drop for LifelineGuard<'_> {
    fn drop(&mut self) {
        let Line { seat, changed } = self.line;
        // In a forked child, the note is that of the parent.
        if seat.is_held(self.token) {
            seat.set_note(&self.token, self.note.ended().0);
            seat.leave(self.token);
            changed.notify(Wake::All);
        }
    }
}

impl fmt::Debug for LifelineGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LifelineGuard")
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
        documented::fields!("ShmLifeline", ShmLifeline { holder, changed });
        type Three = Lifelines<3>;
        documented::fields!("Lifelines", Three { changed, holders }, [("N", 3)]);
        documented::bits(
            "note of a lifeline",
            &[
                ("number", HolderNote(u64::MAX).number().into()),
                ("ENDED", HolderNote::ENDED),
                ("AFTER_DEATH", HolderNote::AFTER_DEATH),
            ],
        );
    }
}
