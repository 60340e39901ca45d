//! The ring of a channel: slots, indices, the known index of the other side, and the
//! end of the last sender.

use std::rc::Rc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use loom::cell::UnsafeCell;
use loom::thread;

use super::mutex::{FAST, RELEASE};
use super::protocol::{
    Orderings, Protocol, Scenario, Site, Thread, exchange, fence, load, relaxed, store, together,
};
use super::seat::{IS_OCCUPIED, NOTE, SET_NOTE, Seat};
use super::word::{self, Word};

const FILE: &str = "src/sync/channel/side.rs";
const INDEX: Site = Site::new(FILE, "index", 0);
const MOVE_TO: Site = Site::new(FILE, "move_to", 0);
const KNOWN: Site = Site::new(FILE, "known", 0);
const SET_KNOWN: Site = Site::new(FILE, "set_known", 0);
const ARRIVALS: Site = Site::new(FILE, "arrivals", 0);
const ARRIVE: Site = Site::new(FILE, "open", 0);
const CLEAR_HINT: Site = Site::new(FILE, "correct_hint", 0);
const CORRECT_FENCE: Site = Site::new(FILE, "correct_hint", 1);
const CLOSE_FENCE: Site = Site::new(FILE, "close", 0);
const SET_HINT: Site = Site::new(FILE, "close", 1);

pub(super) static PROTOCOL: Protocol = Protocol {
    name: "channel",
    scenarios: &[
        Scenario::new("two messages through one slot", two_messages),
        Scenario::new("two receivers take turns", two_receivers),
        Scenario::new("the last sender sends and leaves", end_of_sender),
        Scenario::new("a sender comes, and the other one leaves", relieved_sender),
        Scenario::new("a sender dies, and the next one closes", death_before_end),
        Scenario::new("the last receiver leaves while the hint is corrected", hint),
    ],
    places: &[
        load(INDEX, &[Acquire]),
        store(MOVE_TO, &[Release]),
        exchange(FAST, &[AcqRel, Acquire]),
        exchange(RELEASE, &[AcqRel, Release]),
        load(IS_OCCUPIED, &[Acquire]),
        store(SET_NOTE, &[Release]),
        load(NOTE, &[Acquire]),
        load(ARRIVALS, &[Acquire]),
        exchange(ARRIVE, &[AcqRel, Release]),
        fence(CORRECT_FENCE, &[]),
        fence(CLOSE_FENCE, &[]),
        relaxed(CLEAR_HINT),
        relaxed(SET_HINT),
        relaxed(KNOWN),
        relaxed(SET_KNOWN),
    ],
    mistakes: &[],
};

#[test]
fn orderings() {
    PROTOCOL.check();
}

/// A channel with one slot for each message of the scenario, or one for all.
struct Channel {
    slots: Vec<UnsafeCell<u64>>,
    sent: Word,
    received: Word,
    /// The index of the senders that a receiver has read last.
    known: Word,
    turn: Word,
}

impl Channel {
    fn new(slots: usize) -> Rc<Self> {
        Rc::new(Self {
            slots: (0..slots).map(|_| UnsafeCell::new(0)).collect(),
            sent: Word::new(0),
            received: Word::new(0),
            known: Word::new(0),
            turn: Word::new(0),
        })
    }

    /// `RawChannel::put`, of the only sender. Returns whether there was room.
    fn put(&self, o: Orderings, message: u64) -> bool {
        let sent = self.sent.load(o.of(INDEX));
        let received = self.received.load(o.of(INDEX));
        if sent - received == self.slots.len() as u64 {
            return false;
        }
        let slot = &self.slots[sent as usize % self.slots.len()];
        // SAFETY: loom reports a receiver that has not moved on.
        slot.with_mut(|slot| unsafe { *slot = message });
        self.sent.store(sent + 1, o.of(MOVE_TO));
        true
    }

    /// `RawChannel::take`, with the turn.
    fn take(&self, o: Orderings) -> Option<u64> {
        let received = self.received.load(o.of(INDEX));
        if self.known.load(o.of(KNOWN)) <= received {
            let sent = self.sent.load(o.of(INDEX));
            self.known.store(sent, o.of(SET_KNOWN));
            if sent == received {
                return None;
            }
        }
        let slot = &self.slots[received as usize % self.slots.len()];
        // SAFETY: loom reports a sender that has not moved on, or writes already.
        let message = slot.with(|slot| unsafe { *slot });
        self.received.store(received + 1, o.of(MOVE_TO));
        Some(message)
    }

    /// Takes a message, if this thread gets the turn at once.
    fn take_in_turn(&self, o: Orderings, tid: u64) -> Option<u64> {
        let turn = self.turn.compare_exchange(0, tid, o.of(FAST), Relaxed);
        turn.ok()?;
        let message = self.take(o);
        self.turn.swap(0, o.of(RELEASE));
        message
    }
}

fn two_messages(o: Orderings) {
    let send = Box::new(move |channel: &Channel| {
        for message in [1, 2] {
            while !channel.put(o, message) {
                thread::yield_now();
            }
        }
    });
    let receive = Box::new(move |channel: &Channel| {
        for message in [1, 2] {
            let received = loop {
                match channel.take(o) {
                    Some(received) => break received,
                    None => thread::yield_now(),
                }
            };
            assert!(received == message, "wrong message");
        }
    });
    together(o, &Channel::new(1), vec![send, receive]);
}

/// One receiver uses what the other one knows.
fn two_receivers(o: Orderings) {
    // As one call that sends two messages.
    let send = Box::new(move |channel: &Channel| {
        for slot in &channel.slots {
            // SAFETY: loom reports a receiver that has not waited for the index.
            slot.with_mut(|slot| unsafe { *slot = 7 });
        }
        channel.sent.store(2, o.of(MOVE_TO));
    });
    let receive = move |tid: u64| -> Thread<Channel> {
        Box::new(move |channel| {
            let received = channel.take_in_turn(o, tid);
            assert!(received.is_none_or(|it| it == 7), "wrong message");
        })
    };
    together(o, &Channel::new(2), vec![send, receive(1), receive(2)]);
}

/// `RawChannel::receive_by`: after the end, one more look at the ring.
fn end_of_sender(o: Orderings) {
    type Shared = (Rc<Channel>, Seat);
    let send = Box::new(move |(channel, seat): &Shared| {
        assert!(channel.put(o, 7), "wrong: no room");
        seat.set_note(o, 0);
        seat.leave(o);
    });
    let receive = Box::new(move |(channel, seat): &Shared| {
        let mut received = channel.take(o);
        if received.is_none() && !seat.is_occupied(o) {
            received = channel.take(o);
            assert!(received.is_some(), "wrong: the last message is lost");
        }
    });
    let shared = Rc::new((Channel::new(1), Seat::occupied(1)));
    together(o, &shared, vec![send, receive]);
}

/// `End::peers_left`: there is always a sender, although the receiver may find each
/// seat vacant.
fn relieved_sender(o: Orderings) {
    type Shared = ([Seat; 2], Word);
    let senders = Box::new(move |(seats, arrivals): &Shared| {
        let taken = seats[0].word.compare_exchange(0, 2, o.of(FAST), Relaxed);
        assert!(taken.is_ok(), "no other thread takes it");
        let number = arrivals.fetch_add(1, o.of(ARRIVE)) + 1;
        seats[0].set_note(o, number);
        // The other thread leaves after that.
        seats[1].leave(o);
    });
    let receiver = Box::new(move |(seats, arrivals): &Shared| {
        loop {
            let before = arrivals.load(o.of(ARRIVALS));
            if seats.iter().any(|seat| seat.is_occupied(o)) {
                break;
            }
            let now = arrivals.load(o.of(ARRIVALS));
            assert!(now != before, "wrong: told of an end");
        }
    });
    let seats = [Seat::vacant(), Seat::occupied(1)];
    together(o, &Rc::new((seats, Word::new(1))), vec![senders, receiver]);
}

/// `End::peers_left`: the end of the next sender is told only with its arrival.
fn death_before_end(o: Orderings) {
    type Shared = (Seat, Word);
    let sender = Box::new(move |(seat, arrivals): &Shared| {
        let taken = seat.word.compare_exchange(0, 2, o.of(FAST), Relaxed);
        assert!(taken.is_ok(), "no other thread takes it");
        seat.set_note(o, arrivals.load(o.of(ARRIVALS)) + 1);
        let number = arrivals.fetch_add(1, o.of(ARRIVE)) + 1;
        seat.set_note(o, number);
        seat.set_note(o, 0);
        seat.leave(o);
    });
    let receiver = Box::new(move |(seat, arrivals): &Shared| {
        loop {
            let before = arrivals.load(o.of(ARRIVALS));
            if seat.is_occupied(o) {
                break;
            }
            let died = seat.note(o) != 0;
            if arrivals.load(o.of(ARRIVALS)) == before {
                assert!(died || before == 2, "wrong: told of an end");
                break;
            }
        }
    });
    let seat = Seat::vacant();
    seat.record.store(1, Relaxed);
    together(o, &Rc::new((seat, Word::new(1))), vec![sender, receiver]);
}

/// `Side::correct_hint` and `End::close`: after both, the hint says that no receiver is
/// there. Otherwise senders would fill the ring in vain.
fn hint(o: Orderings) {
    type Shared = (Seat, Word);
    let receiver = Box::new(move |(seat, is_left): &Shared| {
        seat.leave(o);
        word::fence(o.of(CLOSE_FENCE));
        is_left.store(1, o.of(SET_HINT));
    });
    let sender = Box::new(move |(seat, is_left): &Shared| {
        if seat.is_occupied(o) {
            is_left.store(0, o.of(CLEAR_HINT));
            word::fence(o.of(CORRECT_FENCE));
            if !seat.is_occupied(o) {
                is_left.store(1, Relaxed);
            }
        }
    });
    let shared = Rc::new((Seat::occupied(1), Word::new(1)));
    together(o, &shared, vec![receiver, sender]);
    let is_left = shared.1.load(Acquire);
    assert!(
        is_left == 1,
        "wrong: the hint says that a receiver is there"
    );
}
