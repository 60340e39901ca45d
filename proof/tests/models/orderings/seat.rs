//! The note of a seat, which outlives the occupant.
//!
//! A reader without the seat gets the note, and what the occupant had written before
//! it. The next taker clears a bit of the note by a relaxed store. That store would end
//! the release of the dead occupant, but the fence of the slow path precedes it.

use std::rc::Rc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use loom::cell::UnsafeCell;

use super::kernel::{OWNER_DIED, TID, end_holder};
use super::mutex::{FAST, RELEASE, SLOW};
use super::protocol::{
    Orderings, Protocol, Scenario, Site, exchange, fence, load, relaxed, store, together,
};
use super::word::{Word, fence as fence_of};

const FILE: &str = "src/sync/seat.rs";
pub(super) const NOTE: Site = Site::new(FILE, "note", 0);
pub(super) const SET_NOTE: Site = Site::new(FILE, "set_note", 0);
pub(super) const SLOW_FENCE: Site = Site::new(FILE, "try_take_slow", 0);
const SET_DIED: Site = Site::new(FILE, "set_owner_died", 0);
const READ_DIED: Site = Site::new(FILE, "sit_down", 0);
const CLEAR_DIED: Site = Site::new(FILE, "sit_down", 1);
pub(super) const IS_OCCUPIED: Site = Site::new("src/robust/mutex.rs", "owner_tid_seq_cst", 0);

pub(super) static PROTOCOL: Protocol = Protocol {
    name: "seat",
    scenarios: &[
        Scenario::new("note of a dead occupant", note_of_dead),
        Scenario::new("an occupant notes itself", new_note),
        Scenario::new("an occupant clears its note and leaves", cleared_note),
    ],
    places: &[
        store(SET_NOTE, &[Release]),
        load(NOTE, &[Acquire]),
        exchange(FAST, &[AcqRel, Acquire, Release, Relaxed]),
        exchange(SLOW, &[Relaxed]),
        fence(SLOW_FENCE, &[AcqRel, Release]),
        exchange(RELEASE, &[AcqRel, Release]),
        load(IS_OCCUPIED, &[Acquire]),
        relaxed(SET_DIED),
        relaxed(READ_DIED),
        relaxed(CLEAR_DIED),
    ],
    mistakes: &[],
};

#[test]
fn orderings() {
    PROTOCOL.check();
}

const DIED: u64 = 1 << 63;

/// A seat, and what its occupant writes beside it.
pub(super) struct Seat {
    pub(super) word: Word,
    pub(super) record: Word,
}

impl Seat {
    pub(super) fn vacant() -> Self {
        Self {
            word: Word::new(0),
            record: Word::new(0),
        }
    }

    pub(super) fn occupied(tid: u64) -> Self {
        Self {
            word: Word::new(tid),
            record: Word::new(0),
        }
    }

    /// `Seat::is_occupied`.
    pub(super) fn is_occupied(&self, o: Orderings) -> bool {
        self.word.load(o.of(IS_OCCUPIED)) & TID != 0
    }

    /// `Seat::try_take_slow`. Returns whether this thread has the seat.
    pub(super) fn try_take_slow(&self, o: Orderings, tid: u64) -> bool {
        if self.is_occupied(o) {
            return false;
        }
        let word = self.word.load(Relaxed);
        let exchanged = self.word.compare_exchange(word, tid, o.of(SLOW), Relaxed);
        if word & TID != 0 || exchanged.is_err() {
            return false;
        }
        if word & OWNER_DIED != 0 {
            self.record.fetch_or(DIED, o.of(SET_DIED));
        }
        fence_of(o.of(SLOW_FENCE));
        let note = self.record.load(o.of(READ_DIED));
        if note & DIED != 0 {
            self.record.store(note & !DIED, o.of(CLEAR_DIED));
        }
        true
    }

    pub(super) fn note(&self, o: Orderings) -> u64 {
        self.record.load(o.of(NOTE)) & !DIED
    }

    pub(super) fn set_note(&self, o: Orderings, note: u64) {
        self.record.store(note, o.of(SET_NOTE));
    }

    pub(super) fn leave(&self, o: Orderings) {
        self.word.swap(0, o.of(RELEASE));
    }

    /// The end of the occupant.
    pub(super) fn die(&self) {
        end_holder(&self.word, AcqRel);
    }
}

/// The occupant writes beside its note, and dies. Another thread takes the seat, and a
/// third one reads the note.
fn note_of_dead(o: Orderings) {
    type Shared = (Seat, UnsafeCell<u64>);
    let occupant = Box::new(move |(seat, value): &Shared| {
        // SAFETY: loom reports a reader that has not waited for the note.
        value.with_mut(|value| unsafe { *value = 1 });
        seat.set_note(o, 7);
        seat.die();
    });
    let taker = Box::new(move |(seat, value): &Shared| {
        if seat.try_take_slow(o, 2) {
            // SAFETY: loom reports a race with the occupant.
            value.with(|value| unsafe { *value });
        }
    });
    let reader = Box::new(move |(seat, value): &Shared| {
        if seat.note(o) == 7 {
            // SAFETY: loom reports a race with the occupant.
            value.with(|value| unsafe { *value });
        }
    });
    let shared = Rc::new((Seat::occupied(1), UnsafeCell::new(0)));
    together(o, &shared, vec![occupant, taker, reader]);
}

/// `LifelineGuard` and `End::peers_left`: a reader that finds the note of an occupant
/// finds the seat occupied.
fn new_note(o: Orderings) {
    let occupant = Box::new(move |seat: &Seat| {
        let taken = seat.word.compare_exchange(0, 1, o.of(FAST), Relaxed);
        assert!(taken.is_ok(), "no other thread takes it");
        seat.set_note(o, 7);
    });
    let reader = Box::new(move |seat: &Seat| {
        if seat.note(o) == 7 {
            assert!(seat.is_occupied(o), "wrong: taken for a death");
        }
    });
    together(o, &Rc::new(Seat::vacant()), vec![occupant, reader]);
}

/// `BarrierMember::drop` and `End::close`: the note says that the occupant has left. A
/// reader that finds the seat vacant afterwards sees that note.
fn cleared_note(o: Orderings) {
    let seat = Rc::new(Seat::occupied(1));
    // Relaxed: a fence of `word` would hide what is checked here.
    seat.record.store(7, Relaxed);
    let occupant = Box::new(move |seat: &Seat| {
        seat.set_note(o, 0);
        seat.leave(o);
    });
    let reader = Box::new(move |seat: &Seat| {
        if !seat.is_occupied(o) {
            assert!(seat.note(o) == 0, "wrong: taken for a death");
        }
    });
    together(o, &seat, vec![occupant, reader]);
}
