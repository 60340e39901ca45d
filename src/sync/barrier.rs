//! `ShmBarrier`: `N` members wait for each other, round after round. A member that dies
//! or leaves breaks the round for the others.
//!
//! # The protocol
//!
//! A member has a seat. Its note is:
//!
//! | bits | meaning |
//! |---|---|
//! | 0–31 | the round at which the member has arrived last, if bit 32 is set |
//! | 32 | the member has arrived at that round |
//! | 33 | the seat has a member |
//!
//! One word has the [`Rounds`]: the number of the present round, and which round was
//! the last to be completed. A compare-exchange of this word ends a round.
//!
//! * **wait**: notes that it has arrived at the round, and looks at the seats. If all
//!   members have arrived, it completes the round. Otherwise it sleeps, and watches all
//!   seats.
//! * **break**: a vacant seat whose note has bit 33 is that of a member that has died.
//!   A thread that finds such a seat *settles* it: it breaks the present round, and
//!   clears the note. So the next round waits for a new member. A member that leaves
//!   breaks the round itself, and clears its note before it leaves the seat.
//! * **join**: settles first. So a new member never hides the death of the one before
//!   it. At its end it notifies, so that the others watch its seat as well, and look at
//!   the seats again.
//!
//! Settlements and joins take turns at the gate. So no thread joins between the break
//! and the cleared note.
//!
//! A member knows in which round it is, and learns from the rounds how that round has
//! ended. A later round can't be completed without this member. So the last completed
//! round is the one in question, or an earlier one.
//!
//! # Crash behaviour
//!
//! | death of | what is left | what repairs it |
//! |---|---|---|
//! | a member, at any point | a seat to be settled | the kernel wakes a waiter, which settles it |
//! | a member that has ended the round, before it wakes the others | the same | the same; the waiter finds the round ended |
//! | a thread that settles, after the break, before the note is cleared | the same | the next thread breaks another round |
//! | a thread that joins, before its note | the seat as it was before | |
//! | a member that has just joined, before it notifies | a seat that the others do not watch | their recheck |
//! | a thread at the gate, while a waiter has seen a death | a death that no thread settles | the waiters' recheck |
//! | a member that leaves, after the note is cleared | nothing | |
//!
//! # Limits
//!
//! A member that does not wait while 2³² rounds are broken is told of none. A thread
//! that is stopped at the gate keeps others from joining, and deaths from being
//! settled.

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use thiserror::Error as ThisError;

use super::event_count::EventCount;
use super::robust_lock::RawLockError;
use super::seat::{Seat, SeatToken, Seats};
use super::turn::Turn;
use crate::error::{Error, LockError};
use crate::os::clock::Deadline;
use crate::os::futex::Wake;
use crate::robust::{Blocking, BoundToThread};
use crate::shm_safe::{FieldPath, Parts, ShmSafe, TearFree, TypeProperties, Visitor};

/// Why [`BarrierMember::wait`] has not met the other members.
#[non_exhaustive]
#[derive(Debug, ThisError)]
pub enum BarrierError {
    /// A member has died, has left, or has not waited any longer. The other members are
    /// told the same. The next [`wait`](BarrierMember::wait) is for a new round.
    #[error("the round of the barrier is broken: a member has died, left, or timed out")]
    Broken,
    /// Not all members have arrived before the timeout had passed. So this member has
    /// broken the round.
    #[error("not all members have arrived before the timeout had passed")]
    TimedOut,
    /// This thread can't use the barrier. [`LockError::NotOwner`]: the member was
    /// inherited over a fork.
    #[error("the barrier can't be used")]
    Lock(#[source] LockError<Infallible>),
}

impl From<BarrierError> for Error {
    /// `Broken` becomes [`Error::BrokenBarrier`]; the others become [`Error::Lock`].
    fn from(error: BarrierError) -> Self {
        match error {
            BarrierError::Broken => Self::BrokenBarrier,
            BarrierError::TimedOut => Self::Lock(LockError::TimedOut),
            BarrierError::Lock(source) => source.into(),
        }
    }
}

/// The present round, and the last completed one. Both wrap around.
///
/// | bits | meaning |
/// |---|---|
/// | 0–31 | the number of the present round |
/// | 32–63 | one more than the number of the last completed round; 0: none |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rounds(u64);

/// How a round has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Completed,
    Broken,
}

impl Rounds {
    fn present(self) -> u32 {
        self.0 as u32
    }

    fn after_last_completed(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns how `round` has ended, for a member of it. Returns `None` if it is the
    /// present one.
    fn end_of(self, round: u32) -> Option<Ended> {
        if self.present() == round {
            None
        } else if self.after_last_completed() == round.wrapping_add(1) {
            Some(Ended::Completed)
        } else {
            Some(Ended::Broken)
        }
    }

    fn completed(self) -> Self {
        let next = u64::from(self.present().wrapping_add(1));
        Self(next << 32 | next)
    }

    fn broken(self) -> Self {
        let next = self.present().wrapping_add(1);
        let after_last_completed = match self.after_last_completed() {
            // 2³² rounds ago. It must not name this one.
            found if found == next => next ^ 1 << 31,
            other => other,
        };
        Self(u64::from(after_last_completed) << 32 | u64::from(next))
    }
}

/// The note of a seat: see the module documentation. 0: the seat has no member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MemberNote(u64);

impl MemberNote {
    const NO_MEMBER: Self = Self(0);
    const MEMBER: Self = Self(1 << 33);
    const HAS_ARRIVED: u64 = 1 << 32;

    fn arrived(round: u32) -> Self {
        Self(Self::MEMBER.0 | Self::HAS_ARRIVED | u64::from(round))
    }

    fn is_member(self) -> bool {
        self.0 & Self::MEMBER.0 != 0
    }
}

/// What a member sees in the seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    AllArrived,
    /// A member has died.
    Death,
    /// Some members have not arrived, or not joined.
    Incomplete,
}

/// A barrier in shared memory for `N` members, of which each waits until all have
/// arrived. If a member dies, the others are told.
///
/// ```
/// use shm_sync::{BarrierError, Error, Segment, ShmBarrier};
///
/// # fn main() -> Result<(), Error> {
/// // Between programs: `Segment::open_or_create("/steps", ShmBarrier::<2>::new)`.
/// let barrier = Segment::anonymous(ShmBarrier::<2>::new())?;
/// std::thread::scope(|s| {
///     let other = s.spawn(|| {
///         let member = barrier.join()?;
///         member.wait()?; // The first round.
///         // The thread ends without leaving the barrier, as if it were killed.
///         std::mem::forget(member);
///         Ok::<(), Error>(())
///     });
///     let member = barrier.join()?;
///     member.wait()?;
///     // The other member does not come to the second round.
///     assert!(matches!(member.wait(), Err(BarrierError::Broken)));
///     other.join().expect("the thread does not panic")
/// })
/// # }
/// ```
///
/// # Rounds
///
/// A round is complete when `N` members have arrived at it. Then all of them go on, and
/// the next round begins. What a member has written before it arrived is visible to all
/// of them afterwards.
///
/// A round is *broken* when a member dies, [leaves](BarrierMember) or [times
/// out](BarrierMember::wait_timeout). Each other member gets [`BarrierError::Broken`]
/// once: from the call in which it waits, or from its next one. So members that were
/// told can agree on where to begin again. The next round waits for `N` members, as the
/// first one does. A new process that [joins](Self::join) takes the place of the dead
/// one.
///
/// The barriers of POSIX ([`pthread_barrier_wait`]) have no such state: if a member
/// dies, the others wait for ever. Those of Java and Python have it, but can't learn of
/// a death.
///
/// [`pthread_barrier_wait`]: https://man7.org/linux/man-pages/man3/pthread_barrier_wait.3p.html
///
/// In the cookbook: [steps in common](crate::guide::cookbook#steps-in-common).
///
/// # Crash behaviour
///
/// If a member dies (by a signal, `exit`, `exec` or the end of its thread), the kernel
/// wakes a waiter at once, which wakes the others. Before Linux 5.16, if `N` is larger
/// than 127, and if another thread joins at that moment, waiters notice within 250 ms.
///
/// | death of | effect |
/// |---|---|
/// | a member that has not arrived | the round is broken |
/// | a member that has arrived | the round is broken, or it is complete and the next one is broken |
/// | a member that leaves | one or two rounds are broken; a member that has not waited meanwhile is told once |
/// | a thread in [`join`](Self::join) | none, or that of a member |
///
/// A member that is slow or stopped makes the others wait. If a member calls `exec` in
/// another thread than the main thread, it counts as present for ever, as with a
/// [`ShmMutex`](crate::ShmMutex#crash-behaviour).
///
/// # Forks
///
/// A forked child is not a member. An inherited [`BarrierMember`] does nothing when
/// dropped, and its `wait` fails.
#[repr(C)]
pub struct ShmBarrier<const N: usize> {
    /// The seat of a thread that joins or settles. Other threads queue for it.
    gate: Seat,
    /// The [`Rounds`].
    rounds: AtomicU64,
    /// Members wait here.
    changed: EventCount,
    members: Seats<N>,
}

const _: () = assert!(
    offset_of!(ShmBarrier<3>, members) % align_of::<Seat>() == 0,
    "the members do not share a cache line with the rest"
);

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)` over seats and atomic words. The size in the fingerprint tells
//   the number of members.
// * The words have the same meaning in every process, and there is no destructor.
// * Sync objects: the gate and the members, reported at their offsets.
// * Any bytes are valid, so zeros and mixtures are.
unsafe impl<const N: usize> ShmSafe for ShmBarrier<N> {
    const PARTS: Parts = Parts::opaque("ShmBarrier", size_of::<Self>(), align_of::<Self>());
    const SYNC_OBJECTS: usize = 1 + Seats::<N>::SYNC_OBJECTS;
    const PROPERTIES: TypeProperties = TypeProperties::POD.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        Seat::visit(&at.field("gate", offset_of!(Self, gate)), visitor);
        Seats::<N>::visit(&at.field("members", offset_of!(Self, members)), visitor);
    }
}

// SAFETY: any bytes are valid.
unsafe impl<const N: usize> TearFree for ShmBarrier<N> {}

// A panic can't leave it inconsistent, because no user code runs inside.
impl<const N: usize> UnwindSafe for ShmBarrier<N> {}
impl<const N: usize> RefUnwindSafe for ShmBarrier<N> {}

impl<const N: usize> ShmBarrier<N> {
    /// Makes a barrier without members. A [`Segment`](crate::Segment) or
    /// [`place_at`](crate::place_at) initialises it later. Using it before that fails
    /// with [`LockError::NotPlaced`].
    ///
    /// `N` must not be 0:
    ///
    /// ```compile_fail,E0080
    /// let none = shm_sync::ShmBarrier::<0>::new();
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        Self {
            gate: Seat::new(),
            rounds: AtomicU64::new(0),
            changed: EventCount::new(),
            members: Seats::new(),
        }
    }

    /// Makes this thread a member, until the [`BarrierMember`] is dropped or the thread
    /// ends. Does not wait for other members.
    ///
    /// ```
    /// use shm_sync::{Error, LockError, Segment, ShmBarrier};
    ///
    /// # fn main() -> Result<(), Error> {
    /// let barrier = Segment::anonymous(ShmBarrier::<1>::new())?;
    /// let member = barrier.join()?;
    /// assert_eq!(member.index(), 0);
    /// // A thread that were two members would wait for itself.
    /// assert!(matches!(barrier.join(), Err(Error::Lock(LockError::Deadlock))));
    /// # drop(member);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`LockError::WouldBlock`] in [`Error::Lock`]: there are `N` members already.
    /// * [`LockError::Deadlock`] in [`Error::Lock`]: this thread is a member already.
    /// * [`LockError::TooManyLocks`] in [`Error::Lock`]: this thread holds
    ///   [`MAX_LOCKS_HELD`](crate::MAX_LOCKS_HELD) robust locks and seats.
    /// * [`LockError::NotPlaced`] in [`Error::Lock`], [`Error::ForeignPidNamespace`],
    ///   [`LockError::NotRecoverable`] in [`Error::Lock`], [`Error::Unidentified`],
    ///   [`Error::Os`]: this process can't use the barrier; see there.
    ///
    /// # Crash behaviour
    ///
    /// A thread that dies in this call is not a member, or is a member that has died. A
    /// thread that is stopped in it may keep others from joining, and members from
    /// being told of deaths.
    pub fn join(&self) -> Result<BarrierMember<'_, N>, Error> {
        self.gate.check()?;
        self.members.check()?;
        if self.members.occupied_by_this_thread() > 0 {
            return Err(Error::Lock(LockError::Deadlock));
        }
        let gate = Turn::take(&self.gate, Blocking::Wait)?;
        self.settle_all(&gate)?;
        let taken = self.members.try_take_any()?;
        let (index, token) = taken.ok_or(Error::Lock(LockError::WouldBlock))?;
        let seat = &self.members.as_slice()[index];
        if MemberNote(seat.note()).is_member() {
            // It has died since the settlement.
            self.break_present();
        }
        seat.set_note(&token, MemberNote::MEMBER.0);
        let round = Cell::new(self.rounds().present());
        drop(gate);
        self.changed.notify(Wake::All);
        Ok(BarrierMember {
            barrier: self,
            index,
            token,
            round,
            bound: PhantomData,
        })
    }

    /// Returns how many members there are at this moment.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmBarrier};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let barrier = Segment::anonymous(ShmBarrier::<3>::new())?;
    /// let member = barrier.join()?;
    /// assert_eq!(barrier.members(), 1);
    /// # drop(member);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn members(&self) -> usize {
        N - self.members.unoccupied()
    }

    fn rounds(&self) -> Rounds {
        Rounds(self.rounds.load(Ordering::SeqCst))
    }

    /// Ends the present round, if that is still the one of `seen`, and wakes the
    /// members.
    fn end(&self, seen: Rounds, next: Rounds) -> bool {
        let order = Ordering::SeqCst;
        let exchanged = self.rounds.compare_exchange(seen.0, next.0, order, order);
        if exchanged.is_ok() {
            self.changed.notify(Wake::All);
        }
        exchanged.is_ok()
    }

    /// Breaks the present round, whichever that is.
    fn break_present(&self) {
        loop {
            let seen = self.rounds();
            if self.end(seen, seen.broken()) {
                return;
            }
        }
    }

    /// Looks at the seats, as a member that has arrived at `round`.
    fn look(&self, round: u32) -> Seen {
        let mut seen = Seen::AllArrived;
        for seat in self.members.as_slice() {
            if is_left_by_death(seat) {
                return Seen::Death;
            }
            // The seat of an arrived member may be vacated at any time, as if the
            // member had died after the round.
            if MemberNote(seat.note()) != MemberNote::arrived(round) {
                seen = Seen::Incomplete;
            }
        }
        seen
    }

    /// Breaks a round for each member that has died, and clears its note.
    fn settle_all(&self, _gate: &Turn<'_>) -> Result<(), RawLockError> {
        for seat in self.members.as_slice() {
            if is_left_by_death(seat) {
                if let Some(token) = seat.try_take()? {
                    self.break_present();
                    seat.set_note(&token, MemberNote::NO_MEMBER.0);
                    seat.leave(token);
                }
            }
        }
        Ok(())
    }

    /// Returns how `round` has ended, for a member that has arrived at it, and whether
    /// this call has completed it. Returns `None` if the member must wait.
    fn outcome(&self, round: u32) -> Option<Result<Outcome, RawLockError>> {
        loop {
            let rounds = self.rounds();
            if let Some(ended) = rounds.end_of(round) {
                let is_leader = false;
                return Some(Ok(Outcome { ended, is_leader }));
            }
            match self.look(round) {
                Seen::Incomplete => return None,
                Seen::AllArrived => {
                    if self.end(rounds, rounds.completed()) {
                        return Some(Ok(Outcome {
                            ended: Ended::Completed,
                            is_leader: true,
                        }));
                    }
                }
                // If another thread is at the gate, that thread settles, or this thread
                // asks again at its next recheck.
                Seen::Death => match Turn::take(&self.gate, Blocking::Try) {
                    Ok(gate) => {
                        if let Err(error) = self.settle_all(&gate) {
                            return Some(Err(error));
                        }
                    }
                    Err(LockError::WouldBlock) => return None,
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }
}

/// How a round has ended for a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Outcome {
    ended: Ended,
    is_leader: bool,
}

/// Returns whether the member of this seat has died, and no thread has settled that.
fn is_left_by_death(seat: &Seat) -> bool {
    // In this order: a member notes itself after it has taken the seat, and clears the
    // note before it leaves.
    !seat.is_occupied() && MemberNote(seat.note()).is_member()
}

impl<const N: usize> Default for ShmBarrier<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Debug for ShmBarrier<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmBarrier")
            .field("size", &N)
            .field("members", &self.members())
            .field("round", &self.rounds().present())
            .finish_non_exhaustive()
    }
}

/// A member of a [`ShmBarrier`]. Dropping it leaves the barrier, and breaks the present
/// round for the other members.
///
/// A member belongs to the thread that has joined. A leaked one (`mem::forget`) makes
/// the others wait until its thread ends, which then counts as a death. The segment
/// stays mapped until then.
///
/// # Forks
///
/// The parent is the member. In a forked child, [`wait`](Self::wait) fails with
/// [`LockError::NotOwner`](crate::LockError::NotOwner), and dropping it does nothing.
#[must_use = "the thread leaves the barrier at once if the member is not kept"]
pub struct BarrierMember<'a, const N: usize> {
    barrier: &'a ShmBarrier<N>,
    index: usize,
    token: SeatToken,
    /// The round at which this member arrives next.
    round: Cell<u32>,
    bound: BoundToThread,
}

impl<const N: usize> BarrierMember<'_, N> {
    /// Returns the number of the member. It is below `N`, and no other member has it at
    /// the same time. So it can tell which part of the work is this member's.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Waits in the kernel until all `N` members have arrived at the same round.
    /// Returns `true` to one of them, as a POSIX barrier does with
    /// `PTHREAD_BARRIER_SERIAL_THREAD`. If that member dies at once, no member gets
    /// `true`.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmBarrier};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let barrier = Segment::anonymous(ShmBarrier::<1>::new())?;
    /// let member = barrier.join()?;
    /// assert!(member.wait()?, "the only member");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`BarrierError::Broken`]: a member has died, left or timed out since this
    ///   member was told last. The next call is for a new round.
    /// * [`BarrierError::Lock`]: this process has inherited the member over a fork
    ///   ([`NotOwner`]), this thread holds too many robust locks, or the kernel refuses
    ///   to let it sleep, for example by a seccomp filter. The member has still
    ///   arrived.
    ///
    /// [`NotOwner`]: crate::LockError::NotOwner
    ///
    /// # Crash behaviour
    ///
    /// If this thread dies in the call, the round is broken, unless it was complete:
    /// then the next one is.
    pub fn wait(&self) -> Result<bool, BarrierError> {
        self.wait_until(None)
    }

    /// Waits like [`wait`](Self::wait), but at most for `timeout`. A timeout too long
    /// to represent means for ever.
    ///
    /// ```
    /// use shm_sync::{BarrierError, Segment, ShmBarrier};
    /// use std::time::Duration;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let barrier = Segment::anonymous(ShmBarrier::<2>::new())?;
    /// let member = barrier.join()?;
    /// let met = member.wait_timeout(Duration::from_millis(1));
    /// assert!(matches!(met, Err(BarrierError::TimedOut)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`BarrierError::TimedOut`]: not all members have arrived in time. The round is
    ///   broken, because other members may have seen that this one had arrived.
    /// * The errors of [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, BarrierError> {
        self.wait_until(Some(Deadline::after(timeout)))
    }

    fn wait_until(&self, deadline: Option<Deadline>) -> Result<bool, BarrierError> {
        if !self.token.is_of_this_process() {
            return Err(BarrierError::Lock(LockError::NotOwner));
        }
        let barrier = self.barrier;
        let round = self.round.get();
        let seat = &barrier.members.as_slice()[self.index];
        let has_ended = || barrier.rounds().end_of(round).is_some();
        if !has_ended() {
            seat.set_note(&self.token, MemberNote::arrived(round).0);
        }
        let mut answer = barrier.outcome(round);
        if answer.is_none() {
            let watched = barrier.members.as_slice();
            let question = || barrier.outcome(round);
            answer = barrier
                .changed
                .wait(deadline, watched, has_ended, question)
                .map_err(|error| BarrierError::Lock(LockError::Os(error)))?;
        }
        match answer {
            Some(outcome) => self.go_on(outcome.map_err(BarrierError::Lock)?),
            None => self.give_up(),
        }
    }

    /// Goes to the next round.
    fn go_on(&self, outcome: Outcome) -> Result<bool, BarrierError> {
        match outcome.ended {
            Ended::Completed => {
                self.round.set(self.round.get().wrapping_add(1));
                Ok(outcome.is_leader)
            }
            Ended::Broken => {
                self.round.set(self.barrier.rounds().present());
                Err(BarrierError::Broken)
            }
        }
    }

    /// Breaks the round after a timeout, unless it has ended.
    fn give_up(&self) -> Result<bool, BarrierError> {
        let is_leader = false;
        loop {
            let rounds = self.barrier.rounds();
            if let Some(ended) = rounds.end_of(self.round.get()) {
                return self.go_on(Outcome { ended, is_leader });
            }
            if self.barrier.end(rounds, rounds.broken()) {
                self.round.set(rounds.broken().present());
                return Err(BarrierError::TimedOut);
            }
        }
    }
}

impl<const N: usize> Drop for BarrierMember<'_, N> {
    fn drop(&mut self) {
        let seat = &self.barrier.members.as_slice()[self.index];
        // In a forked child, the seat is that of the parent.
        if seat.is_held(self.token) {
            self.barrier.break_present();
            seat.set_note(&self.token, MemberNote::NO_MEMBER.0);
            seat.leave(self.token);
        }
    }
}

impl<const N: usize> fmt::Debug for BarrierMember<'_, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierMember")
            .field("index", &self.index)
            .field("round", &self.round.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn rounds_end() {
        let first = Rounds(0);
        assert_eq!(first.end_of(0), None);
        let second = first.completed();
        assert_eq!(
            (second.end_of(0), second.end_of(1)),
            (Some(Ended::Completed), None)
        );
        let third = second.broken();
        assert_eq!(third.end_of(1), Some(Ended::Broken));
        assert_eq!(
            third.end_of(0),
            Some(Ended::Completed),
            "a late member of the first round learns that it was completed"
        );
        assert_eq!(first.broken().end_of(0), Some(Ended::Broken));
    }

    #[test]
    fn rounds_wrap_around() {
        let last = Rounds(u64::from(u32::MAX));
        assert_eq!(last.completed(), Rounds(0));
        assert_eq!(last.completed().end_of(u32::MAX), Some(Ended::Completed));
        assert_eq!(last.broken().end_of(u32::MAX), Some(Ended::Broken));
        let first_was_complete = Rounds(1 << 32);
        assert_eq!(first_was_complete.broken().end_of(0), Some(Ended::Broken));
    }

    #[test]
    fn numbers_are_documented() {
        type Barrier = ShmBarrier<3>;
        documented::fields!(
            "ShmBarrier",
            Barrier {
                gate,
                rounds,
                changed,
                members
            },
            [("N", 3)]
        );
        let all = Rounds(u64::MAX);
        documented::bits(
            "rounds",
            &[
                ("present", all.present().into()),
                (
                    "after_last_completed",
                    u64::from(all.after_last_completed()) << 32,
                ),
            ],
        );
        let round = MemberNote::arrived(u32::MAX).0 & !MemberNote::arrived(0).0;
        documented::bits(
            "note of a member",
            &[
                ("round", round),
                ("HAS_ARRIVED", MemberNote::HAS_ARRIVED),
                ("MEMBER", MemberNote::MEMBER.0),
            ],
        );
    }
}
