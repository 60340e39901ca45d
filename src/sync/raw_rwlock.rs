//! The readers-writer lock without its data: seats of readers, a seat of the writer,
//! and phases.
//!
//! # The protocol
//!
//! Each reader has a seat. No number of readers is stored: the seats are counted. The
//! note of the writer's seat is the [`Phase`].
//!
//! * **read**: takes a seat, and reads the phase. If it is open, the reader is inside.
//!   If it is closed, the reader notes in its seat that it waits for the end of this
//!   phase. It is inside when the phase has another number, open or closed.
//! * **write**: takes the writer's seat, closes the phase, and waits until each
//!   reader's seat is vacant or waits for the end of this phase. At its end, it opens
//!   the next phase, leaves the seat, and notifies the waiters.
//! * **queue**: a writer that finds the writer's seat taken waits at the gate. Only the
//!   thread at the gate waits for the seat, as in a
//!   [`ShmSemaphore`](crate::ShmSemaphore), and no newcomer overtakes it.
//!
//! So a reader with a seat waits for one writer at most, and a writer only for the
//! readers that were inside before it: Brandenburg and Anderson, "Spin-based
//! reader-writer synchronization for multiprocessor real-time systems" (2010), call
//! this phase-fair.
//!
//! * **downgrade**: the writer opens the next phase, and keeps its seat. So readers
//!   come inside, and writers wait at the gate until the thread has ended its reading.
//!
//! A thread that reads already, and reads once more, is inside at once. It needs no
//! second seat: its seat counts its guards. Otherwise readers that wait for a writer
//! could have all seats, while the writer waits for this thread. (A thread that has
//! downgraded takes a seat for that: the writer's seat can't count. No writer waits for
//! readers then, so each seat becomes vacant.)
//!
//! # Why a reader and a writer are never inside together
//!
//! This is the store-buffer pattern, and at least one side must see the other:
//!
//! | | first | then |
//! |---|---|---|
//! | reader | takes its seat, `SeqCst` | reads the phase, `SeqCst` |
//! | writer | closes the phase, `SeqCst` | looks at the seats, `SeqCst` |
//!
//! A reader that waits for the end of phase *n* is ignored by the writer of phase *n*
//! only. That reader is not inside before the number changes, and then the next writer
//! waits for it.
//!
//! # Crash behaviour
//!
//! | death of | what is left | what repairs it |
//! |---|---|---|
//! | reader, inside or waiting | an orphaned seat | the kernel wakes the writer, which watches the seats; any reader takes it |
//! | writer, before it closes the phase | an orphaned seat | any writer takes it |
//! | writer that waits for readers | the same, and a closed phase | the next writer, or a waiting reader that takes the seat, opens the next phase |
//! | writer, inside | the same, and its ids in `inside` | the same, which first poisons the data with these ids |
//! | writer, after it has opened the next phase, or has downgraded | an orphaned seat; the waiters are not notified | the kernel wakes a waiter, which watches the seat |
//! | thread that repairs | any of these, once more | the next one repeats it |
//! | thread at the gate | an orphaned gate | the next thread in its queue |
//!
//! `inside` is set before the writer can change the data, and cleared after that. So a
//! writer that dies while it waits does not poison.

use std::mem::offset_of;
use std::slice;
use std::sync::atomic::{Ordering, compiler_fence, fence};

use super::event_count::EventCount;
use super::poison::PoisonWord;
use super::robust_lock::{LockToken, RawLockError};
use super::rwlock_phase::{Phase, ReaderNote};
use super::seat::{Seat, SeatToken, Seats};
use super::snapshot::Holder;
use super::turn::Turn;
use crate::error::{LockError, PoisonCause};
use crate::os::futex::Wake;
use crate::robust::{Blocking, ThreadId, ThreadState};

/// A readers-writer lock without data.
#[repr(C)]
pub(super) struct RawRwLock<const READERS: usize> {
    /// The seat of the thread that waits for the writer's seat. Other writers queue for
    /// it.
    pub(super) gate: Seat,
    /// The seat of the writer. Its note is the phase.
    pub(super) writer: Seat,
    /// The writer that is inside, as it would be recorded if it died. The thread in the
    /// writer's seat writes it.
    inside: PoisonWord,
    /// Why the data may be inconsistent. The thread in the writer's seat sets it.
    poison: PoisonWord,
    /// Readers wait here for the end of a phase, and the thread at the gate for the
    /// writer's seat.
    turn: EventCount,
    /// The writer waits here until readers have left, and readers for a seat.
    vacated: EventCount,
    pub(super) readers: Seats<READERS>,
}

const _: () = assert!(
    offset_of!(RawRwLock<3>, readers) % align_of::<Seat>() == 0,
    "the seats do not share a cache line with the rest"
);

/// Proof that this thread reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadToken {
    /// The number of its seat. A writer that has downgraded has `READERS`.
    index: usize,
    token: LockToken,
}

/// Proof that this thread writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteToken(pub(super) LockToken);

impl<const READERS: usize> RawRwLock<READERS> {
    pub(super) const fn new() -> Self {
        Self {
            gate: Seat::new(),
            writer: Seat::new(),
            inside: PoisonWord::new(),
            poison: PoisonWord::new(),
            turn: EventCount::new(),
            vacated: EventCount::new(),
            readers: Seats::new(),
        }
    }

    pub(super) fn is_placed(&self) -> bool {
        self.writer.is_placed()
    }

    #[inline]
    pub(super) fn poison(&self) -> &PoisonWord {
        &self.poison
    }

    #[inline]
    fn phase(&self) -> Phase {
        Phase(self.writer.note())
    }

    /// Acquires read access. `blocking` says how long to wait.
    #[inline(always)]
    pub(super) fn read(&self, blocking: Blocking) -> Result<ReadToken, RawLockError> {
        let Some((index, token)) = self.readers.try_take_usual() else {
            return self.read_in_any_seat(blocking);
        };
        if !self.is_inside_at_once(index) {
            return self.read_slow(Some((index, token)), blocking);
        }
        let token = token.token;
        Ok(ReadToken { index, token })
    }

    /// Returns whether a reader that has just taken a seat is inside.
    #[inline]
    fn is_inside_at_once(&self, index: usize) -> bool {
        let is_first = || ReaderNote(self.reader(index).note()).more_guards() == 0;
        self.phase().is_open() && is_first()
    }

    #[cold]
    fn read_in_any_seat(&self, blocking: Blocking) -> Result<ReadToken, RawLockError> {
        let taken = self.readers.try_take_any()?;
        match taken {
            Some((index, token)) if self.is_inside_at_once(index) => {
                let token = token.token;
                Ok(ReadToken { index, token })
            }
            _ => self.read_slow(taken, blocking),
        }
    }

    #[cold]
    fn read_slow(
        &self,
        taken: Option<(usize, SeatToken)>,
        blocking: Blocking,
    ) -> Result<ReadToken, RawLockError> {
        let seated = taken.map(|(index, token)| Seated::new(self, index, token));
        self.check()?;
        if let Some(token) = self.read_once_more(seated.as_ref().map(|it| it.token.index))? {
            return Ok(token);
        }
        if self.writer.is_occupied_by_this_thread() && !self.phase().is_open() {
            return Err(refusal(blocking, LockError::Deadlock));
        }
        let seated = match seated {
            Some(seated) => seated,
            None => self.wait_for_seat(blocking)?,
        };
        self.wait_for_turn(&seated, blocking)?;
        Ok(seated.keep())
    }

    /// If this thread reads already, adds a guard to its seat. `except` is a seat that
    /// it has just taken.
    fn read_once_more(&self, except: Option<usize>) -> Result<Option<ReadToken>, RawLockError> {
        let seats = self.readers.as_slice().iter().enumerate();
        let mut others = seats.filter(|(index, _)| Some(*index) != except);
        let Some((index, token)) =
            others.find_map(|(index, seat)| Some((index, seat.token_of_this_thread()?)))
        else {
            return Ok(None);
        };
        let seat = self.reader(index);
        let note = ReaderNote(seat.note())
            .with_guard()
            .ok_or(LockError::TooManyLocks)?;
        seat.set_note(&token, note.0);
        let token = token.token;
        Ok(Some(ReadToken { index, token }))
    }

    fn reader(&self, index: usize) -> &Seat {
        &self.readers.as_slice()[index]
    }

    /// Waits until a seat is vacant, and takes it.
    fn wait_for_seat(&self, blocking: Blocking) -> Result<Seated<'_, READERS>, RawLockError> {
        let take = || match self.readers.try_take_any() {
            Ok(None) => None,
            Ok(Some((index, token))) => Some(Ok(Seated::new(self, index, token))),
            Err(error) => Some(Err(error)),
        };
        if matches!(blocking, Blocking::Try) {
            // Once more, because `check` may have made seats vacant after a fork.
            return take().unwrap_or(Err(LockError::WouldBlock));
        }
        let watched = self.readers.as_slice();
        let looks_answered = || self.readers.unoccupied() > 0;
        let deadline = blocking.deadline();
        let answer = self.vacated.wait(deadline, watched, looks_answered, take);
        answer
            .map_err(LockError::Os)?
            .unwrap_or(Err(LockError::TimedOut))
    }

    /// Waits until the reader in this seat is inside.
    fn wait_for_turn(
        &self,
        seated: &Seated<'_, READERS>,
        blocking: Blocking,
    ) -> Result<(), RawLockError> {
        let phase = self.phase();
        if phase.is_open() {
            return Ok(());
        }
        let note = ReaderNote::waiting_for_end_of(phase);
        self.reader(seated.token.index)
            .set_note(&seated.token.token.into(), note.0);
        // The writer of this phase does not wait for this seat any more.
        self.vacated.notify(Wake::All);
        let question = || self.has_ended(phase);
        if let Some(ended) = question() {
            return ended;
        }
        if matches!(blocking, Blocking::Try) {
            return Err(LockError::WouldBlock);
        }
        let looks_answered =
            || self.phase().number() != phase.number() || !self.writer.is_occupied();
        let watched = slice::from_ref(&self.writer);
        let deadline = blocking.deadline();
        let answer = self.turn.wait(deadline, watched, looks_answered, question);
        answer
            .map_err(LockError::Os)?
            .unwrap_or(Err(LockError::TimedOut))
    }

    /// Returns `Some` if the phase has ended. Ends it if its writer has died.
    fn has_ended(&self, phase: Phase) -> Option<Result<(), RawLockError>> {
        let has_ended = || self.phase().number() != phase.number();
        if !has_ended() && !self.writer.is_occupied() {
            match self.writer.try_take() {
                Ok(Some(token)) => {
                    self.end_phase_of_dead_writer(token);
                    self.leave_writer(token);
                }
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
        has_ended().then_some(Ok(()))
    }

    /// Ends read access. Does nothing in a forked child.
    #[inline]
    pub(super) fn end_read(&self, ReadToken { index, token }: ReadToken) {
        let Some(seat) = self.readers.get(index) else {
            return self.end_downgraded_read(token.into());
        };
        match ReaderNote(seat.note()).without_guard() {
            Some(note) => end_nested_read(seat, token.into(), note),
            None => {
                if seat.leave(token.into()) {
                    self.vacated.notify(Wake::All);
                }
            }
        }
    }

    /// Ends the reading of a writer that has downgraded. Does nothing in a forked
    /// child.
    #[cold]
    fn end_downgraded_read(&self, token: SeatToken) {
        if self.writer.is_held(token) {
            self.leave_writer(token);
        }
    }

    /// Acquires write access. `blocking` says how long to wait.
    #[inline]
    pub(super) fn write(&self, blocking: Blocking) -> Result<WriteToken, RawLockError> {
        let taken = if self.gate.is_occupied() {
            None
        } else {
            self.writer.try_take_fast()
        };
        let token = match taken {
            Some(token) => token,
            None => self.take_writer_slow(blocking)?,
        };
        let announced = Announced { lock: self, token };
        if !self.phase().is_open() {
            self.end_phase_of_dead_writer(token);
        }
        let phase = self.phase().close();
        // A call that does not wait does not hold up readers.
        if matches!(blocking, Blocking::Try) && !self.is_free_of_readers(phase) {
            self.wait_for_readers(phase, blocking)?;
        }
        self.writer.set_note(&token, phase.0);
        if !self.is_free_of_readers(phase) {
            self.wait_for_readers(phase, blocking)?;
        }
        let me = ThreadState::with_cached(ThreadState::id);
        // If this thread dies, its successor copies the word to `poison`.
        self.inside.set_owner_died(me);
        // If this thread dies, the changes of the data after this must not be visible
        // without this store.
        compiler_fence(Ordering::SeqCst);
        Ok(announced.keep())
    }

    #[cold]
    fn take_writer_slow(&self, blocking: Blocking) -> Result<SeatToken, RawLockError> {
        let taken = if self.gate.is_occupied() {
            None
        } else {
            self.writer.try_take()?
        };
        match taken {
            Some(token) => Ok(token),
            None => self.wait_at_gate(blocking),
        }
    }

    fn wait_at_gate(&self, blocking: Blocking) -> Result<SeatToken, RawLockError> {
        self.check()?;
        // Before any wait: of two readers that both want to write, each learns of it.
        if self.writer.is_occupied_by_this_thread() || self.is_read_by_this_thread() {
            return Err(refusal(blocking, LockError::Deadlock));
        }
        let _gate = Turn::take_to_wait(&self.gate, blocking)?;
        let take = || self.writer.try_take().transpose();
        if let Some(taken) = take() {
            return taken;
        }
        if matches!(blocking, Blocking::Try) {
            return Err(LockError::WouldBlock);
        }
        let watched = slice::from_ref(&self.writer);
        let looks_answered = || !self.writer.is_occupied();
        let deadline = blocking.deadline();
        let answer = self.turn.wait(deadline, watched, looks_answered, take);
        answer
            .map_err(LockError::Os)?
            .unwrap_or(Err(LockError::TimedOut))
    }

    #[cold]
    fn wait_for_readers(&self, phase: Phase, blocking: Blocking) -> Result<(), RawLockError> {
        self.check()?;
        if self.is_read_by_this_thread() {
            return Err(refusal(blocking, LockError::Deadlock));
        }
        let have_left = || self.is_free_of_readers(phase);
        let question = || have_left().then_some(());
        if matches!(blocking, Blocking::Try) {
            return question().ok_or(LockError::WouldBlock);
        }
        let watched = self.readers.as_slice();
        let deadline = blocking.deadline();
        let answer = self.vacated.wait(deadline, watched, have_left, question);
        answer.map_err(LockError::Os)?.ok_or(LockError::TimedOut)
    }

    /// Returns whether no reader is inside in this closed phase.
    fn is_free_of_readers(&self, phase: Phase) -> bool {
        let mut seats = self.readers.as_slice().iter();
        !seats.any(|seat| seat.is_occupied() && !ReaderNote(seat.note()).waits_for_end_of(phase))
    }

    fn is_read_by_this_thread(&self) -> bool {
        self.readers.occupied_by_this_thread() > 0
    }

    /// Ends write access. Does nothing in a forked child.
    #[inline]
    pub(super) fn end_write(&self, WriteToken(token): WriteToken) {
        if !self.writer.is_held(token.into()) {
            return;
        }
        // If this thread dies, the next store must not be visible without the changes
        // of the data before it.
        compiler_fence(Ordering::SeqCst);
        self.inside.clear();
        self.leave_writer(token.into());
    }

    /// Turns write access into read access, and lets readers in. Does nothing in a
    /// forked child.
    pub(super) fn downgrade(&self, WriteToken(token): WriteToken) -> ReadToken {
        if self.writer.is_held(token.into()) {
            // See `end_write`.
            compiler_fence(Ordering::SeqCst);
            self.inside.clear();
            let phase = self.phase().downgraded();
            self.writer.set_note(&token.into(), phase.0);
            self.turn.notify(Wake::All);
        }
        let index = READERS;
        ReadToken { index, token }
    }

    /// Returns whether this thread still has the write access of a token.
    pub(super) fn is_written_by(&self, WriteToken(token): WriteToken) -> bool {
        self.writer.is_held(token.into())
    }

    /// Poisons the data because this thread panics. Does nothing in a forked child.
    #[cold]
    pub(super) fn poison_by_panic(&self, token: WriteToken) {
        if self.is_written_by(token) {
            let me = ThreadState::with_cached(ThreadState::id);
            self.poison.set_panicked(me);
        }
    }

    /// Opens the next phase if this one is closed, leaves the writer's seat, and
    /// notifies.
    #[inline]
    fn leave_writer(&self, token: SeatToken) {
        let phase = self.phase();
        if !phase.is_open() {
            self.writer.set_note(&token, phase.next().0);
        } else if phase.is_downgraded() {
            self.writer.set_note(&token, phase.not_downgraded().0);
        }
        self.writer.leave(token);
        self.turn.notify(Wake::All);
    }

    /// Poisons the data if the dead writer was inside, and opens the next phase, if
    /// this one is closed. This thread has the writer's seat.
    #[cold]
    fn end_phase_of_dead_writer(&self, token: SeatToken) {
        let phase = self.phase();
        if phase.is_open() {
            return;
        }
        if let Some(death) = self.inside.cause() {
            let dead = ThreadId::new(death.pid(), death.tid());
            self.poison.set_owner_died(dead);
            // If this thread dies, the next store must not be visible without the last
            // one.
            compiler_fence(Ordering::SeqCst);
            self.inside.clear();
        }
        self.writer.set_note(&token, phase.next().0);
        self.turn.notify(Wake::All);
    }

    /// Checks that this thread may take the seats. Seats in private memory that a fork
    /// has copied are reinitialised.
    fn check(&self) -> Result<(), RawLockError> {
        self.gate.check()?;
        self.writer.check()?;
        self.readers.check()
    }

    /// Returns the writer that is inside or has died inside, and whether it lives.
    fn writer_inside(&self) -> Option<(PoisonCause, bool)> {
        let phase = self.phase();
        let writer = self.inside.cause().filter(|_| !phase.is_open())?;
        // By the lock word, which the writer changes after the phase. The ids that it
        // records may seem to change before the phase.
        let lives = self.writer.is_occupied_by(writer.tid());
        // All that was read belongs to one phase. Acquire: the phase is read last.
        fence(Ordering::Acquire);
        (self.phase() == phase).then_some((writer, lives))
    }

    /// Returns the writer that is inside.
    pub(super) fn writer(&self) -> Option<Holder> {
        let (writer, lives) = self.writer_inside()?;
        let (pid, tid) = (writer.pid(), writer.tid());
        lives.then_some(Holder { pid, tid })
    }

    /// Returns why the data may be inconsistent. Includes the death of a writer that no
    /// thread has seen yet.
    pub(super) fn poison_cause(&self) -> Option<PoisonCause> {
        let unseen = self.writer_inside().filter(|(_, lives)| !lives);
        unseen.map(|(death, _)| death).or(self.poison.cause())
    }

    /// Returns how many threads are inside as readers.
    pub(super) fn readers_inside(&self) -> usize {
        let phase = self.phase();
        let is_inside = |seat: &&Seat| {
            seat.is_occupied()
                && (phase.is_open() || !ReaderNote(seat.note()).waits_for_end_of(phase))
        };
        let downgraded = phase.is_downgraded() && self.writer.is_occupied();
        self.readers.as_slice().iter().filter(is_inside).count() + usize::from(downgraded)
    }
}

/// Returns the error of a call that would wait for its own thread.
fn refusal(blocking: Blocking, deadlock: RawLockError) -> RawLockError {
    match blocking {
        Blocking::Try => LockError::WouldBlock,
        Blocking::Wait | Blocking::WaitUntil(_) => deadlock,
    }
}

/// Takes a guard off the count of its thread. Does nothing in a forked child, which
/// reads the note of its parent.
#[cold]
fn end_nested_read(seat: &Seat, token: SeatToken, note: ReaderNote) {
    if seat.is_held(token) {
        seat.set_note(&token, note.0);
    }
}

/// A reader's seat. Dropping it leaves the seat.
struct Seated<'a, const READERS: usize> {
    lock: &'a RawRwLock<READERS>,
    token: ReadToken,
}

impl<'a, const READERS: usize> Seated<'a, READERS> {
    fn new(lock: &'a RawRwLock<READERS>, index: usize, token: SeatToken) -> Self {
        let seat = lock.reader(index);
        let note = ReaderNote(seat.note());
        // The last occupant has died with several guards.
        if note.more_guards() != 0 {
            seat.set_note(&token, note.without_more_guards().0);
        }
        let token = token.token;
        let token = ReadToken { index, token };
        Self { lock, token }
    }

    fn keep(self) -> ReadToken {
        std::mem::ManuallyDrop::new(self).token
    }
}

impl<const READERS: usize> Drop for Seated<'_, READERS> {
    fn drop(&mut self) {
        self.lock.end_read(self.token);
    }
}

/// The writer's seat. Dropping it ends the phase, and leaves the seat.
struct Announced<'a, const READERS: usize> {
    lock: &'a RawRwLock<READERS>,
    token: SeatToken,
}

impl<const READERS: usize> Announced<'_, READERS> {
    #[inline]
    fn keep(self) -> WriteToken {
        WriteToken(std::mem::ManuallyDrop::new(self).token.token)
    }
}

impl<const READERS: usize> Drop for Announced<'_, READERS> {
    fn drop(&mut self) {
        self.lock.leave_writer(self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn numbers_are_documented() {
        type Lock = RawRwLock<5>;
        documented::fields!(
            "lock of a ShmRwLock",
            Lock {
                gate,
                writer,
                inside,
                poison,
                turn,
                vacated,
                readers
            },
            [("R", 5)]
        );
    }
}
