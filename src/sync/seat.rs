//! A seat: a robust lock without data that a thread holds for as long as it takes part.
//! For most seats no thread queues. Threads queue for a gate and for a
//! [`Turn`](super::turn::Turn).
//!
//! The holder of a permit and the owner of a lifeline each have a seat. A question such
//! as "how many permits are free?" is answered by a look at the seats. A count would be
//! wrong after a death.
//!
//! # States
//!
//! | lock word | state | meaning |
//! |---|---|---|
//! | 0 | vacant | no thread has it; its last occupant has left it |
//! | thread id | occupied | that thread has it, and has not ended |
//! | `FUTEX_OWNER_DIED` | orphaned | its occupant has died, and no thread has taken it since |
//!
//! The kernel changes *occupied* to *orphaned* when the thread ends: by a signal,
//! `exit`, `exec` of the main thread or the end of the thread. A forked child does not
//! have the seats of its parent.
//!
//! # Crash behaviour
//!
//! | death | what is left | what repairs it |
//! |---|---|---|
//! | before the word names the thread | nothing | |
//! | after that, while the thread has the seat | the kernel orphans the seat | the next taker |
//! | taker of an orphaned seat, before it clears [`Note::DIED`] | the seat is orphaned again | the next taker sets the bit again |
//! | taker, after it has cleared the bit | the seat is orphaned by this death | the next taker |
//! | leaver, after the word is 0 | a vacant seat; waiters were not called | a watcher of the seat, or the waiters' recheck |
//!
//! So exactly one surviving taker learns of each death: the taker that finds the bit
//! set and does not die before its call returns.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::robust_lock::{self, LockToken, RawLockError, Record, RobustLock};
use super::snapshot::{Holder, LockState, SeatState};
use crate::error::LockError;
use crate::os::pthread::{MUTEX_SIZE, Protocol};
use crate::robust::{Blocking, ThreadId, ThreadState};
use crate::shm_safe::{
    FieldPath, Parts, ShmSafe, SyncKind, SyncOps, TearFree, TypeProperties, Visitor,
};

/// A seat. It has a cache line of its own.
#[repr(C, align(64))]
pub(super) struct Seat {
    lock: RobustLock<Note>,
}

const _: () = assert!(
    size_of::<Seat>() == 64 || MUTEX_SIZE > 40,
    "a seat is one cache line"
);

/// What the occupant of a seat says of itself.
///
/// | bits | meaning |
/// |---|---|
/// | 0–62 | the note; it outlives its author |
/// | 63 | an occupant has died, and no taker has learned of it |
///
/// # Memory ordering
///
/// The occupant writes it. A reader without the seat gets the note of an occupant, and
/// what the occupant had written before the note.
#[repr(transparent)]
pub(super) struct Note(AtomicU64);

impl Note {
    const DIED: u64 = 1 << 63;
}

impl Record for Note {
    const NEW: Self = Self(AtomicU64::new(0));

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) & Self::DIED != 0
    }

    fn set_owner_died(&self, _: ThreadId) {
        self.0.fetch_or(Self::DIED, Ordering::Relaxed);
    }
}

/// Proof that this thread has a seat.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeatToken {
    pub(super) token: LockToken,
    /// The occupant before this one has died.
    pub(super) after_death: bool,
}

impl From<LockToken> for SeatToken {
    #[inline]
    fn from(token: LockToken) -> Self {
        let after_death = false;
        Self { token, after_death }
    }
}

impl SeatToken {
    /// Returns whether this process has taken the seat. Returns `false` in a forked
    /// child.
    #[inline]
    pub(super) fn is_of_this_process(self) -> bool {
        self.token.is_of_this_process()
    }
}

impl Seat {
    pub(super) const fn new() -> Self {
        Self {
            lock: RobustLock::new(Protocol::None),
        }
    }

    /// Takes the seat, if no living thread has it. Returns `None` if one has it. Does
    /// not wait. The take is sequentially consistent: a reader of a readers-writer lock
    /// then reads the phase.
    #[inline]
    pub(super) fn try_take(&self) -> Result<Option<SeatToken>, RawLockError> {
        match self.try_take_fast() {
            Some(token) => Ok(Some(token)),
            None => self.try_take_slow(),
        }
    }

    /// Takes the seat if it is vacant. If this returns `None`, `try_take` finds the
    /// reason.
    #[inline]
    pub(super) fn try_take_fast(&self) -> Option<SeatToken> {
        // The load spares the cache line of an occupant.
        if self.is_occupied() {
            return None;
        }
        let token = self.lock.try_lock_fast(Blocking::Wait)?;
        Some(self.sit_down(token))
    }

    #[cold]
    fn try_take_slow(&self) -> Result<Option<SeatToken>, RawLockError> {
        // The sequentially consistent load that `event_count` demands of a question.
        if self.is_occupied() {
            return Ok(None);
        }
        match self.lock.lock_slow(Blocking::Try) {
            Ok((token, _)) => {
                // Libc and the slow path lock with `Acquire`. And the fence releases to
                // readers of the note what the dead occupant had written before it: the
                // store of `sit_down` is relaxed.
                fence(Ordering::SeqCst);
                Ok(Some(self.sit_down(token)))
            }
            Err(LockError::WouldBlock) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Takes the seat, and waits for that as for a mutex. Only a seat that no thread
    /// watches is used in this way.
    #[inline]
    pub(super) fn take(&self, blocking: Blocking) -> Result<SeatToken, RawLockError> {
        let token = match self.lock.try_lock_fast(blocking) {
            Some(token) => token,
            None => self.lock.lock_slow(blocking)?.0,
        };
        Ok(self.sit_down(token))
    }

    /// Completes a take: finds out whether the last occupant has died.
    #[inline]
    fn sit_down(&self, token: LockToken) -> SeatToken {
        let note = self.lock.record.0.load(Ordering::Relaxed);
        let after_death = note & Note::DIED != 0;
        if after_death {
            self.lock
                .record
                .0
                .store(note & !Note::DIED, Ordering::Relaxed);
        }
        SeatToken { token, after_death }
    }

    /// Leaves the seat. Does nothing and returns `false` in a forked child, which has a
    /// copy of the token but not the seat.
    ///
    /// A thread that waits for this must be notified afterwards. The store of the lock
    /// word is sequentially consistent, as [`event_count`](super::event_count) demands.
    #[inline]
    pub(super) fn leave(&self, token: SeatToken) -> bool {
        self.lock.unlock(token.token)
    }

    /// Leaves the seat as if this thread had not taken it: the next taker learns of the
    /// death that this token reports.
    pub(super) fn leave_unreported(&self, token: SeatToken) -> bool {
        if token.after_death && self.is_held(token) {
            self.lock.record.0.fetch_or(Note::DIED, Ordering::Relaxed);
        }
        self.leave(token)
    }

    /// Returns the note of the last occupant that has written one.
    #[inline]
    pub(super) fn note(&self) -> u64 {
        self.lock.record.0.load(Ordering::SeqCst) & !Note::DIED
    }

    /// Replaces the note. Bit 63 of `note` is ignored. The store is sequentially
    /// consistent, as [`event_count`](super::event_count) demands.
    #[inline]
    pub(super) fn set_note(&self, _: &SeatToken, note: u64) {
        self.lock
            .record
            .0
            .store(note & !Note::DIED, Ordering::SeqCst);
    }

    /// Returns whether this thread still has the seat of a token. Returns `false` in a
    /// forked child.
    pub(super) fn is_held(&self, token: SeatToken) -> bool {
        self.lock.is_held(token.token)
    }

    /// Returns whether a thread has the seat at this moment.
    #[inline]
    pub(super) fn is_occupied(&self) -> bool {
        !self.lock.is_unlocked_seq_cst()
    }

    /// Returns whether the last occupant has died, and no thread has taken the seat
    /// since. Includes a death that [`Note::DIED`] records.
    pub(super) fn is_orphaned(&self) -> bool {
        self.lock.owner_died() || (!self.is_occupied() && self.lock.record.is_set())
    }

    /// Returns whether the thread with this id has the seat at this moment.
    pub(super) fn is_occupied_by(&self, tid: u32) -> bool {
        tid != 0 && self.lock.owner_tid_seq_cst() == tid
    }

    pub(super) fn is_occupied_by_this_thread(&self) -> bool {
        self.lock.is_held_by_this_thread()
    }

    /// Returns the token of the seat, if this thread has it.
    pub(super) fn token_of_this_thread(&self) -> Option<SeatToken> {
        self.lock.token_of_this_thread().map(SeatToken::from)
    }

    pub(super) fn is_placed(&self) -> bool {
        self.lock.is_initialized()
    }

    /// Checks that this thread may take the seat, should it become vacant.
    pub(super) fn check(&self) -> Result<(), RawLockError> {
        self.lock.check()
    }

    /// Prepares a wait for the end of the occupant: see [`RobustLock::watch`].
    pub(super) fn watch(&self) -> Option<(&AtomicU32, u32)> {
        self.lock.watch()
    }

    /// Returns the occupant, or the thread that died as the occupant.
    pub(super) fn occupant(&self) -> Option<Holder> {
        self.lock.holder()
    }

    /// Describes the seat by its words. Any words are valid, those of a copy as well.
    pub(super) fn state(&self) -> SeatState<Holder> {
        SeatState {
            lock: match self.lock.state() {
                LockState::Free if self.is_orphaned() => LockState::OwnerDied,
                other => other,
            },
            note: self.note(),
            deaths: self.lock.failures.get(),
        }
    }
}

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)` over the lock. The fingerprint has the size and the alignment.
// * The words have the same meaning in every process, and there is no destructor.
// * Sync objects: itself, reported at offset 0.
// * Any bytes are valid, so zeros and mixtures are.
unsafe impl ShmSafe for Seat {
    const PARTS: Parts = Parts::opaque("Seat", size_of::<Self>(), align_of::<Self>());
    const SYNC_OBJECTS: usize = 1;
    const PROPERTIES: TypeProperties = TypeProperties::POD.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        visitor(at, &SEAT);
    }
}

// SAFETY: any bytes are valid.
unsafe impl TearFree for Seat {}

/// The operations on a seat whose type is unknown.
static SEAT: SyncOps = robust_lock::sync_ops::<Note>(SyncKind::Seat);

/// Seats of one kind.
#[repr(transparent)]
pub(super) struct Seats<const N: usize>([Seat; N]);

impl<const N: usize> Seats<N> {
    const NOT_EMPTY: () = assert!(N > 0, "there must be at least one");

    pub(super) const fn new() -> Self {
        const { Self::NOT_EMPTY }
        Self([const { Seat::new() }; N])
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&Seat> {
        self.0.get(index)
    }

    pub(super) fn as_slice(&self) -> &[Seat] {
        &self.0
    }

    /// Returns the usual seat of this thread. Most threads have another one than the
    /// others, so that each has its cache line to itself.
    #[inline]
    fn usual() -> usize {
        ThreadState::with_cached(|me| me.id().tid()) as usize % N
    }

    /// Takes the usual seat of this thread if it is vacant. Otherwise
    /// [`try_take_any`](Self::try_take_any) may find a seat.
    ///
    /// A caller calls that out of line. Otherwise the compiler moves the result of both
    /// through memory, in pieces of other sizes than those that were stored, which
    /// costs as much as a lock.
    #[inline]
    pub(super) fn try_take_usual(&self) -> Option<(usize, SeatToken)> {
        let usual = Self::usual();
        Some((usual, self.0[usual].try_take_fast()?))
    }

    /// Takes any seat that no living thread has. Returns its index. Returns `None` if
    /// all are occupied.
    ///
    /// It begins with the usual seat of this thread.
    pub(super) fn try_take_any(&self) -> Result<Option<(usize, SeatToken)>, RawLockError> {
        let first = Self::usual();
        for index in (first..N).chain(0..first) {
            if let Some(token) = self.0[index].try_take()? {
                return Ok(Some((index, token)));
            }
        }
        Ok(None)
    }

    /// Checks that this thread may take the seats: see [`Seat::check`]. A fork copies
    /// private memory, with the words of occupants that the child does not have. This
    /// renews them.
    pub(super) fn check(&self) -> Result<(), RawLockError> {
        self.0.iter().try_for_each(Seat::check)
    }

    /// Returns how many seats no living thread has at this moment.
    pub(super) fn unoccupied(&self) -> usize {
        self.0.iter().filter(|seat| !seat.is_occupied()).count()
    }

    /// Returns how many seats this thread has.
    pub(super) fn occupied_by_this_thread(&self) -> usize {
        let all = self.0.iter();
        all.filter(|seat| seat.is_occupied_by_this_thread()).count()
    }
}

// SAFETY: the clauses of `ShmSafe`, as for the array, over which it is transparent.
unsafe impl<const N: usize> ShmSafe for Seats<N> {
    const PARTS: Parts = <[Seat; N]>::PARTS;
    const SYNC_OBJECTS: usize = <[Seat; N]>::SYNC_OBJECTS;
    const PROPERTIES: TypeProperties = <[Seat; N]>::PROPERTIES;

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        <[Seat; N]>::visit(at, visitor);
    }
}

// SAFETY: any bytes are valid.
unsafe impl<const N: usize> TearFree for Seats<N> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;
    use crate::robust;
    use crate::shm_safe::InitContext;

    fn context() -> InitContext {
        let pid_namespace = robust::pid_namespace().expect("/proc is mounted");
        InitContext { pid_namespace }
    }

    /// Returns seats that are initialised in their place.
    fn seats<const N: usize>() -> Box<Seats<N>> {
        let seats = Box::new(Seats::<N>::new());
        for seat in seats.as_slice() {
            // SAFETY: the seat stays in its box, and no thread uses it yet.
            unsafe { seat.lock.init(context()) }.expect("pthread initialises it");
        }
        seats
    }

    fn take(seat: &Seat) -> SeatToken {
        let taken = seat.try_take().expect("this thread may take seats");
        taken.expect("no living thread has the seat")
    }

    /// Has another thread take the seat and end with it. Returns whether that thread
    /// has learned of a death.
    fn leave_a_death(seat: &Seat) -> bool {
        let after_death = std::thread::scope(|s| {
            let occupant = s.spawn(|| {
                let token = take(seat);
                seat.set_note(&token, 7);
                token.after_death
            });
            occupant.join().expect("the thread does not panic")
        });
        // The thread may be joined before the kernel has walked its list.
        while seat.is_occupied() {
            std::hint::spin_loop();
        }
        assert!(seat.is_orphaned());
        after_death
    }

    fn take_and_leave(seat: &Seat) -> SeatToken {
        let token = take(seat);
        assert!(seat.leave(token), "this thread has the seat");
        token
    }

    #[test]
    fn smoke() {
        let seats = seats::<1>();
        let seat = &seats.0[0];
        assert!(!seat.is_occupied() && !seat.is_orphaned());
        let token = take(seat);
        assert!(!token.after_death);
        assert!(seat.is_occupied() && seat.is_occupied_by_this_thread());
        assert!(seat.try_take().expect("a refusal is no error").is_none());
        assert_eq!(seat.occupant().map(|it| it.pid), Some(std::process::id()));
        assert!(seat.leave(token));
        assert!(!seat.is_occupied() && !seat.is_occupied_by_this_thread());
        assert_eq!(seat.state().lock, LockState::Free);
    }

    #[test]
    fn unplaced_seat_is_refused() {
        let seat = Seat::new();
        assert!(matches!(seat.try_take(), Err(LockError::NotPlaced)));
        assert!(matches!(seat.check(), Err(LockError::NotPlaced)));
        assert!(!seat.is_placed() && !seat.is_occupied() && !seat.is_orphaned());
    }

    #[test]
    fn death_is_reported_once() {
        let seats = seats::<1>();
        let seat = &seats.0[0];
        for deaths in 1..4 {
            leave_a_death(seat);
            assert_eq!(seat.state().lock, LockState::OwnerDied);
            let token = take(seat);
            assert!(token.after_death);
            assert_eq!(seat.state().deaths, deaths);
            assert!(seat.leave(token));
            assert!(!take_and_leave(seat).after_death);
        }
    }

    #[test]
    fn taker_that_dies_is_reported_in_turn() {
        let seats = seats::<1>();
        let seat = &seats.0[0];
        assert!(!leave_a_death(seat));
        assert!(leave_a_death(seat), "it took an orphaned seat");
        assert!(take_and_leave(seat).after_death);
        assert!(!take_and_leave(seat).after_death);
    }

    #[test]
    fn unreported_death_goes_to_the_next_taker() {
        let seats = seats::<1>();
        let seat = &seats.0[0];
        leave_a_death(seat);
        let token = take(seat);
        assert!(token.after_death);
        assert!(seat.leave_unreported(token));
        assert!(seat.is_orphaned());
        let token = take(seat);
        assert!(token.after_death);
        assert!(seat.leave(token));
        assert!(seat.leave_unreported(take(seat)));
        assert!(!take_and_leave(seat).after_death);
    }

    #[test]
    fn note_outlives_its_author() {
        let seats = seats::<1>();
        let seat = &seats.0[0];
        let token = take(seat);
        seat.set_note(&token, u64::MAX);
        assert_eq!(seat.note(), u64::MAX >> 1);
        assert!(seat.leave(token));
        assert_eq!(seat.note(), u64::MAX >> 1);
        leave_a_death(seat);
        assert_eq!(seat.note(), 7);
        let token = take(seat);
        assert!(token.after_death);
        assert_eq!(seat.note(), 7);
        assert!(seat.leave(token));
    }

    #[test]
    fn reinit_orphans_an_occupied_seat() {
        let seats = seats::<2>();
        let occupied = take(&seats.0[0]);
        for (index, orphaned) in [(0, true), (1, false)] {
            let mut copy = Box::new(Seat::new());
            // SAFETY: both are as large as a seat, for which any bytes are valid.
            unsafe {
                std::ptr::from_ref(&seats.0[index]).copy_to_nonoverlapping(&raw mut *copy, 1)
            };
            // SAFETY: the seat stays in its box. No other thread uses it.
            unsafe { (SEAT.reinit)((&raw mut *copy).cast(), context()) }.expect("it succeeds");
            assert_eq!(copy.is_orphaned(), orphaned);
            assert!(!copy.is_occupied());
            assert_eq!(take_and_leave(&copy).after_death, orphaned);
            assert!(!take_and_leave(&copy).after_death);
        }
        assert!(seats.0[0].leave(occupied), "the original has not changed");
    }

    #[test]
    fn takers_get_different_seats() {
        let seats = seats::<5>();
        let mut taken = Vec::new();
        while let Some(found) = seats.try_take_any().expect("this thread may take seats") {
            taken.push(found);
        }
        let mut indices: Vec<usize> = taken.iter().map(|(index, _)| *index).collect();
        indices.sort_unstable();
        assert_eq!(indices, [0, 1, 2, 3, 4]);
        assert_eq!(
            (seats.unoccupied(), seats.occupied_by_this_thread()),
            (0, 5)
        );
        let elsewhere = std::thread::scope(|s| {
            let other = s.spawn(|| seats.occupied_by_this_thread());
            other.join().expect("the thread does not panic")
        });
        assert_eq!(elsewhere, 0);
        for (index, token) in taken {
            assert!(seats.0[index].leave(token));
        }
        assert_eq!(seats.unoccupied(), 5);
    }

    #[test]
    fn numbers_are_documented() {
        documented::fields!("seat", Seat { lock });
        documented::bits("note", &[("note", !Note::DIED), ("DIED", Note::DIED)]);
    }
}
