//! The barrier: members that look at each other, and what a round hands over.
//!
//! | thread | first | then |
//! |---|---|---|
//! | member | notes its arrival | looks at the other notes |
//!
//! If both read the old values, all members sleep.

use std::rc::Rc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use loom::cell::UnsafeCell;

use super::protocol::{Orderings, Protocol, Scenario, Site, exchange, load, store, together};
use super::seat::{NOTE, SET_NOTE, Seat};
use super::word::Word;

const FILE: &str = "src/sync/barrier.rs";
const ROUNDS: Site = Site::new(FILE, "rounds", 0);
/// One name stands for the orderings of success and failure.
const END: Site = Site::new(FILE, "end", 0);

pub(super) static PROTOCOL: Protocol = Protocol {
    name: "barrier",
    scenarios: &[
        Scenario::new("two members", two_members),
        Scenario::new("the last member", last_member),
    ],
    places: &[
        store(SET_NOTE, &[]),
        load(NOTE, &[]),
        load(ROUNDS, &[Acquire]),
        exchange(END, &[AcqRel, Release]),
    ],
    mistakes: &[],
};

#[test]
fn orderings() {
    PROTOCOL.check();
}

struct Barrier {
    seats: [Seat; 2],
    rounds: Word,
    data: [UnsafeCell<u64>; 2],
}

impl Barrier {
    /// `BarrierMember::wait`, without the sleep.
    fn arrive(&self, o: Orderings, me: usize) {
        // SAFETY: loom reports another member that has not waited.
        self.data[me].with_mut(|data| unsafe { *data = 1 });
        self.seats[me].set_note(o, 1);
        self.look(o, me);
    }

    /// `ShmBarrier::outcome`. The code loads the rounds first, by a load that is
    /// sequentially consistent. A fence of `word` there would hide what is checked
    /// here.
    fn look(&self, o: Orderings, me: usize) {
        if self.seats.iter().all(|seat| seat.note(o) == 1) {
            let order = o.of(END);
            let _ = self.rounds.compare_exchange(0, 1, order, order);
        }
        if self.rounds.load(o.of(ROUNDS)) == 1 {
            // SAFETY: loom reports a race with the other member.
            self.data[1 - me].with(|data| unsafe { *data });
        }
    }
}

impl Barrier {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            seats: [Seat::occupied(1), Seat::occupied(2)],
            rounds: Word::new(0),
            data: [UnsafeCell::new(0), UnsafeCell::new(0)],
        })
    }
}

fn two_members(o: Orderings) {
    let barrier = Barrier::new();
    together(
        o,
        &barrier,
        vec![
            Box::new(move |barrier| barrier.arrive(o, 0)),
            Box::new(move |barrier| barrier.arrive(o, 1)),
        ],
    );
    assert!(barrier.rounds.load(Relaxed) == 1, "wrong: both sleep");
}

/// One member has arrived, and learns of the other one from the rounds.
fn last_member(o: Orderings) {
    let barrier = Barrier::new();
    barrier.seats[1].record.store(1, Relaxed);
    let last = Box::new(move |barrier: &Barrier| {
        // SAFETY: loom reports another member that has not waited.
        barrier.data[1].with_mut(|data| unsafe { *data = 1 });
        barrier.look(o, 1);
    });
    let first = Box::new(move |barrier: &Barrier| {
        // SAFETY: loom reports another member that has not waited.
        barrier.data[0].with_mut(|data| unsafe { *data = 1 });
        barrier.seats[0].record.store(1, o.of(SET_NOTE));
        if barrier.rounds.load(o.of(ROUNDS)) == 1 {
            // SAFETY: loom reports a race with the other member.
            barrier.data[1].with(|data| unsafe { *data });
        }
    });
    together(o, &barrier, vec![first, last]);
}
