//! One side of a channel: its endpoints, its index, and its sleepers.
//!
//! An endpoint is a seat. The note of the seat is:
//!
//! | note | meaning |
//! |---|---|
//! | 0 | the last occupant has closed its endpoint, or there was none |
//! | other | the number of the present occupant, or of the last one, which has died |
//!
//! The numbers count the arrivals of a side from 1. So an endpoint can tell the peers
//! of its time from earlier ones.
//!
//! A sender is told that the receivers of its time have left. Of earlier ones it learns
//! nothing: its messages wait for the next receiver. (There is one exception: a
//! receiver has died, and an older receiver is still there when the sender opens. Then
//! the sender is told of that death, too.) A receiver is told of all senders, because
//! their end is a part of what they have sent: a receiver that comes later than the
//! last sender gets the rest, and then the end.
//!
//! A thread that waits for a peer sleeps with those that wait for messages or for room.
//! It does not swallow a notification that is meant for one of these: if it sleeps, no
//! peer was there after its announcement. A later peer notifies all when it opens,
//! before it sends or receives.
//!
//! # Crash behaviour
//!
//! | death | what is left | what repairs it |
//! |---|---|---|
//! | opener, before it stores a number | a vacant seat, as if it had not come; a peer that has looked meanwhile is told of an end | |
//! | opener, after that, before its arrival counts | an orphaned seat with a number; peers that had others are told of a death | |
//! | opener, after that, before it notifies | the same, and peers that sleep and do not watch its seat | their recheck |
//! | occupant | an orphaned seat with a number | the kernel wakes a watcher of the seat, which notifies the others |
//! | closer, after it has stored 0 | an orphaned seat with 0: it has closed | the same |
//! | closer, after it has left the seat | peers that were not notified | the kernel, or their recheck |

use std::cell::Cell;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use crate::error::{Error, LockError};
use crate::os::clock::Deadline;
use crate::os::futex::Wake;
use crate::robust::Blocking;
use crate::shm_safe::{FieldPath, Parts, ShmSafe, TypeProperties, Visitor};
use crate::sync::event_count::EventCount;
use crate::sync::robust_lock::RawLockError;
use crate::sync::seat::{Seat, SeatToken, Seats};

/// One side of a channel. Each part has cache lines of its own, in pairs, because
/// processors prefetch the second line of a pair.
#[repr(C, align(128))]
pub(super) struct Side<const ENDS: usize> {
    /// Held while an endpoint moves the index. If there is only one seat, the seat is
    /// this lock, and this one is not used.
    lock: Seat,
    /// How far this side has come: see [`raw`](super::raw). Storing it sends or
    /// receives messages.
    index: AtomicU64,
    /// An earlier index of the other side. It spares reading the present one.
    known: AtomicU64,
    _end_of_lines: [AtomicU64; 6],
    door: Door,
    seats: Seats<ENDS>,
}

/// The words of a side that the other side reads for each message. They are seldom
/// written.
#[repr(C, align(128))]
struct Door {
    asleep: EventCount,
    /// A hint that no seat is occupied. It spares looking at the seats for each
    /// message: a thread that locks something writes to the seat that it has, because
    /// both are neighbours on its robust list.
    is_left: AtomicU32,
    /// How many threads have opened an endpoint.
    arrivals: AtomicU64,
}

/// The last number of an occupant. Bit 63 of a note has another meaning.
const LAST_NUMBER: u64 = u64::MAX >> 1;

/// Returns the number of the occupant that arrives after `arrivals` others. A number
/// wraps around only if a faulty program has stored it.
const fn number_after(arrivals: u64) -> u64 {
    arrivals.wrapping_add(1) & LAST_NUMBER
}

const NOT_LEFT: u32 = 0;
const LEFT: u32 = 1;

const _: () = {
    assert!(size_of::<Door>() == 128);
    assert!(offset_of!(Side<1>, index) % 64 == 0);
    assert!(offset_of!(Side<1>, door) % 128 == 0);
};

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)` over seats and atomic words. The fingerprint covers all of them.
//   The size alone would not tell one seat from two, because it is rounded up.
// * The words have the same meaning in every process, and there is no destructor.
// * Sync objects: the seats, and the lock if it is used, reported at their offsets.
// * Any bytes are valid, so zeros and mixtures are.
unsafe impl<const ENDS: usize> ShmSafe for Side<ENDS> {
    const PARTS: Parts = Parts {
        kind: "Side",
        size: size_of::<Self>(),
        align: align_of::<Self>(),
        fields: &[
            ("lock", offset_of!(Self, lock), Seat::DESCRIPTION),
            ("index", offset_of!(Self, index), AtomicU64::DESCRIPTION),
            ("known", offset_of!(Self, known), AtomicU64::DESCRIPTION),
            (
                "asleep",
                offset_of!(Self, door.asleep),
                EventCount::DESCRIPTION,
            ),
            (
                "is_left",
                offset_of!(Self, door.is_left),
                AtomicU32::DESCRIPTION,
            ),
            (
                "arrivals",
                offset_of!(Self, door.arrivals),
                AtomicU64::DESCRIPTION,
            ),
            ("seats", offset_of!(Self, seats), Seats::<ENDS>::DESCRIPTION),
        ],
        variants: &[],
    };
    const SYNC_OBJECTS: usize = Self::LOCKS + Seats::<ENDS>::SYNC_OBJECTS;
    const PROPERTIES: TypeProperties = TypeProperties::POD.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        if Self::LOCKS == 1 {
            Seat::visit(&at.field("lock", offset_of!(Self, lock)), visitor);
        }
        Seats::<ENDS>::visit(&at.field("seats", offset_of!(Self, seats)), visitor);
    }
}

/// The right to move the index of a side. Dropping it lets the next endpoint in.
pub(super) struct Turn<'a>(Option<(&'a Seat, SeatToken)>);

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some((lock, token)) = self.0 {
            lock.leave(token);
        }
    }
}

impl<const ENDS: usize> Side<ENDS> {
    /// The number of locks beside the seats.
    const LOCKS: usize = if ENDS == 1 { 0 } else { 1 };

    pub(super) const fn new() -> Self {
        Self {
            lock: Seat::new(),
            index: AtomicU64::new(0),
            known: AtomicU64::new(0),
            _end_of_lines: [const { AtomicU64::new(0) }; 6],
            door: Door {
                asleep: EventCount::new(),
                is_left: AtomicU32::new(NOT_LEFT),
                arrivals: AtomicU64::new(0),
            },
            seats: Seats::new(),
        }
    }

    /// Waits for the turn of this endpoint. The caller has an endpoint of this side.
    #[inline]
    pub(super) fn take_turn(&self, blocking: Blocking) -> Result<Turn<'_>, RawLockError> {
        if ENDS == 1 {
            return Ok(Turn(None));
        }
        let token = self.lock.take(blocking)?;
        Ok(Turn(Some((&self.lock, token))))
    }

    #[inline]
    pub(super) fn index(&self) -> u64 {
        // SeqCst: `EventCount` demands it of a question.
        self.index.load(Ordering::SeqCst)
    }

    /// Sends or receives messages: this store is the commit.
    #[inline]
    pub(super) fn move_to(&self, _: &Turn<'_>, index: u64) {
        // SeqCst: `EventCount` demands it of the caller of `notify`. It releases the
        // message to the other side, and `known` to the next holder of the turn.
        self.index.store(index, Ordering::SeqCst);
    }

    /// Returns an earlier index of the other side.
    #[inline]
    pub(super) fn known(&self, _: &Turn<'_>) -> u64 {
        self.known.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn set_known(&self, _: &Turn<'_>, index: u64) {
        self.known.store(index, Ordering::Relaxed);
    }

    /// Sets where the index begins. No process uses the channel yet.
    #[cfg(test)]
    pub(super) fn start_at(&self, index: u64) {
        self.index.store(index, Ordering::Relaxed);
        self.known.store(index, Ordering::Relaxed);
    }

    /// Wakes sleepers of this side: the other side has moved its index by `count`.
    #[inline]
    pub(super) fn notify(&self, count: usize) {
        // Each sleeper can use each message, so one sleeper suffices for one message. A
        // sleeper that a seat has woken wakes all others.
        self.door
            .asleep
            .notify(if count == 1 { Wake::One } else { Wake::All });
    }

    pub(super) fn asleep(&self) -> &EventCount {
        &self.door.asleep
    }

    pub(super) fn seats(&self) -> &[Seat] {
        self.seats.as_slice()
    }

    /// Returns how many threads have an endpoint at this moment.
    pub(super) fn occupied(&self) -> usize {
        ENDS - self.seats.unoccupied()
    }

    fn is_occupied(&self) -> bool {
        self.seats().iter().any(Seat::is_occupied)
    }

    fn arrivals(&self) -> u64 {
        self.door.arrivals.load(Ordering::SeqCst) & LAST_NUMBER
    }

    /// Returns whether the side seems to have no occupied seat. [`End::peers_left`]
    /// knows.
    #[inline]
    pub(super) fn seems_left(&self) -> bool {
        self.door.is_left.load(Ordering::Relaxed) != NOT_LEFT
    }

    /// Corrects the hint, after a seat was found occupied. Returns whether one still
    /// is.
    fn correct_hint(&self) -> bool {
        if !self.seems_left() {
            return true;
        }
        self.door.is_left.store(NOT_LEFT, Ordering::Relaxed);
        // The last occupant may leave at this moment: see `End::close`.
        fence(Ordering::SeqCst);
        self.is_occupied()
    }
}

/// What an endpoint finds if it had peers and none is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Left {
    /// Whether a peer of its time has died, and no other has taken its seat since.
    died: bool,
    /// The arrivals of the other side until then.
    arrivals: u64,
}

/// An endpoint of one side, and what it knows of its peers on the other side.
pub(super) struct End {
    index: usize,
    token: SeatToken,
    /// The number of the first peer of its time.
    first_peer: u64,
    /// The arrivals of the other side when the endpoint was opened.
    arrivals: u64,
    /// Whether a peer was there in its time, or before it if [`Earlier::Count`].
    had_peer: Cell<bool>,
    /// Up to which arrival of the other side the end was told.
    told: Cell<u64>,
}

/// Whether the end of peers that have left before an endpoint is opened is told to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Earlier {
    Count,
    DoNotCount,
}

impl End {
    /// Opens an endpoint of the side `own`.
    pub(super) fn open<const ENDS: usize, const PEERS: usize>(
        own: &Side<ENDS>,
        other: &Side<PEERS>,
        earlier: Earlier,
    ) -> Result<Self, Error> {
        own.seats.check()?;
        other.seats.check()?;
        let arrivals = other.arrivals();
        let (mut first_peer, mut had_peer) = match earlier {
            Earlier::Count => (1, arrivals > 0),
            Earlier::DoNotCount => (number_after(arrivals), false),
        };
        for seat in other.seats().iter().filter(|seat| seat.is_occupied()) {
            had_peer = true;
            // 0: the occupant opens or closes its endpoint at this moment.
            let note = seat.note();
            if note != 0 {
                first_peer = first_peer.min(note);
            }
        }
        // Of the end of a peer that is there, or was there just now, it is not told
        // yet.
        let told = if had_peer {
            arrivals.min(first_peer).saturating_sub(1)
        } else {
            arrivals
        };
        let Some((index, token)) = own.seats.try_take_any()? else {
            return Err(Error::TooManyEndpoints { limit: ENDS });
        };
        // Before the arrival counts, so that no peer finds an arrival without a number.
        // Other arrivals may come between, so this number can be too small, but never
        // too large.
        let seat = &own.seats()[index];
        seat.set_note(&token, number_after(own.arrivals()));
        let number = number_after(own.door.arrivals.fetch_add(1, Ordering::SeqCst));
        seat.set_note(&token, number);
        own.door.is_left.store(NOT_LEFT, Ordering::Relaxed);
        // Peers that wait shall watch this seat as well.
        other.asleep().notify(Wake::All);
        Ok(Self {
            index,
            token,
            first_peer,
            arrivals,
            had_peer: Cell::new(had_peer),
            told: Cell::new(told),
        })
    }

    /// Closes the endpoint. Does nothing in a forked child.
    pub(super) fn close<const ENDS: usize, const PEERS: usize>(
        &self,
        own: &Side<ENDS>,
        other: &Side<PEERS>,
    ) {
        if !self.token.is_of_this_process() {
            return;
        }
        let seat = &own.seats()[self.index];
        seat.set_note(&self.token, 0);
        seat.leave(self.token);
        // This fence pairs with that of `correct_hint`: if a peer still finds the seat
        // occupied there, the store below comes after that of the peer.
        fence(Ordering::SeqCst);
        if !own.is_occupied() {
            own.door.is_left.store(LEFT, Ordering::Relaxed);
        }
        other.asleep().notify(Wake::All);
    }

    /// Checks that this process has opened the endpoint.
    #[inline]
    pub(super) fn check(&self) -> Result<(), RawLockError> {
        if self.token.is_of_this_process() {
            Ok(())
        } else {
            Err(LockError::NotOwner)
        }
    }

    /// Waits until a thread has an endpoint of the other side, or has had one of whose
    /// end this endpoint was not told. Returns `false` if the deadline has passed.
    pub(super) fn wait_for_peer<const ENDS: usize, const PEERS: usize>(
        &self,
        own: &Side<ENDS>,
        other: &Side<PEERS>,
        deadline: Option<Deadline>,
    ) -> Result<bool, RawLockError> {
        self.check()?;
        let is_there = || other.is_occupied() || other.arrivals() > self.told.get();
        let question = || is_there().then_some(());
        // Each opener of the other side notifies this side's sleepers.
        let answer = own.asleep().wait(deadline, &[], is_there, question);
        Ok(answer.map_err(LockError::Os)?.is_some())
    }

    /// Returns the seat of the endpoint.
    pub(super) fn seat_index(&self) -> usize {
        self.index
    }

    /// Returns what has become of the peers, if this endpoint had peers and none is
    /// left. Returns `None` otherwise.
    pub(super) fn peers_left<const PEERS: usize>(&self, other: &Side<PEERS>) -> Option<Left> {
        let (arrivals, died) = loop {
            let arrivals = other.arrivals();
            if other.is_occupied() {
                self.had_peer.set(true);
                if other.correct_hint() {
                    return None;
                }
                continue;
            }
            // No seat was occupied. So a note that is left is that of a dead occupant,
            // if no other has come: see below.
            let mut notes = other.seats().iter().map(Seat::note);
            let died = notes.any(|note| note >= self.first_peer);
            // A peer may have come meanwhile: to the seat of a dead one, or to a seat
            // that this thread had looked at already, before another peer has left the
            // seat that it looked at last.
            if other.arrivals() == arrivals {
                break (arrivals, died);
            }
        };
        if !self.had_peer.get() && arrivals == self.arrivals {
            return None;
        }
        self.had_peer.set(true);
        other.door.is_left.store(LEFT, Ordering::Relaxed);
        Some(Left { died, arrivals })
    }

    /// Records that the caller of the endpoint is told of the end. Returns whether a
    /// peer has died.
    pub(super) fn tell(&self, left: Left) -> bool {
        self.told.set(left.arrivals);
        left.died
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn numbers_are_documented() {
        type Three = Side<3>;
        documented::fields!(
            "side",
            Three {
                lock,
                index,
                known,
                _end_of_lines,
                door,
                seats
            },
            [("N", 3)]
        );
        documented::fields!(
            "door",
            Door {
                asleep,
                is_left,
                arrivals
            }
        );
        documented::values(
            "is_left",
            &[("NOT_LEFT", NOT_LEFT.into()), ("LEFT", LEFT.into())],
        );
    }
}
