//! The system call that a notifier of an event count may skip: the store-buffer
//! pattern.
//!
//! | thread | first | then |
//! |---|---|---|
//! | waiter | adds its announcement to `roll` | the question reads a word |
//! | notifier | its caller changes that word | reads `roll` |
//!
//! If both read the old values, the waiter sleeps and no process wakes it.
//!
//! The scenarios include the rest of the event count: a notifier that wakes no thread
//! settles the announcements, and so does a waiter that is alone. There is one scenario
//! for each word that is changed in this way.

use std::rc::Rc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use loom::cell::UnsafeCell;

use super::kernel::Sleepers;
use super::mutex::RELEASE;
use super::protocol::{
    Orderings, Protocol, Scenario, Site, exchange, fence, load, relaxed, store, together,
};
use super::seat::{IS_OCCUPIED, NOTE, SET_NOTE};
use super::word::{Word, fence as fence_of};

const FILE: &str = "src/sync/event_count.rs";
const SEQUENCE: Site = Site::new(FILE, "wait", 0);
const ANNOUNCE: Site = Site::new(FILE, "announce", 0);
const SETTLE: Site = Site::new(FILE, "settle", 0);
const SETTLE_FAILED: Site = Site::new(FILE, "settle", 1);
const READ_ROLL: Site = Site::new(FILE, "notify", 0);
const WAKE: Site = Site::new(FILE, "wake", 0);

const EVENT: &str = "src/sync/event.rs";
const SET: Site = Site::new(EVENT, "set", 0);
const IS_SET: Site = Site::new(EVENT, "is_set", 0);
const PASS: Site = Site::new(EVENT, "pass", 0);

const SIDE: &str = "src/sync/channel/side.rs";
const MOVE_TO: Site = Site::new(SIDE, "move_to", 0);
const INDEX: Site = Site::new(SIDE, "index", 0);
const ARRIVE: Site = Site::new(SIDE, "open", 0);
const ARRIVALS: Site = Site::new(SIDE, "arrivals", 0);

const PUBLISH: Site = Site::new("src/sync/published.rs", "publish_with", 0);
const WAIT_NEWER: Site = Site::new("src/sync/published.rs", "wait_newer", 0);

const END: Site = Site::new("src/sync/barrier.rs", "end", 0);
const ROUNDS: Site = Site::new("src/sync/barrier.rs", "rounds", 0);

const UNLOCK_FENCE: Site = Site::new("src/sync/robust_lock.rs", "unlock_slow", 0);

const SETTLES_BLINDLY: &str = "a settlement is a store";

pub(super) static PROTOCOL: Protocol = Protocol {
    name: "event_count",
    scenarios: &[
        Scenario::new("event", |o| {
            wakes(o, Change::Exchange(SET), Question::Event)
        }),
        Scenario::new("index of a channel", |o| {
            wakes(o, Change::Store(MOVE_TO), Question::Load(INDEX));
        }),
        Scenario::new("arrival at a channel", |o| {
            wakes(o, Change::Exchange(ARRIVE), Question::Load(ARRIVALS));
        }),
        Scenario::new("version", |o| {
            wakes(o, Change::Store(PUBLISH), Question::Load(WAIT_NEWER));
        }),
        Scenario::new("rounds of a barrier", |o| {
            wakes(o, Change::Exchange(END), Question::Load(ROUNDS));
        }),
        Scenario::new("note of a seat", |o| {
            wakes(o, Change::Store(SET_NOTE), Question::Load(NOTE));
        }),
        Scenario::new("seat that is left", |o| {
            wakes(o, Change::Exchange(RELEASE), Question::Load(IS_OCCUPIED));
        }),
        Scenario::new("seat that is left by libc", |o| {
            wakes(o, Change::ByLibc(UNLOCK_FENCE), Question::Load(IS_OCCUPIED));
        }),
        Scenario::new("event that another waiter takes", taken_event),
        Scenario::new("two events", two_events).at_most(3),
        Scenario::new("a notification in vain", vain_notification).at_most(1),
    ],
    places: &[
        load(SEQUENCE, &[Acquire, Relaxed]),
        exchange(ANNOUNCE, &[]),
        exchange(SETTLE, &[Acquire, Release, Relaxed]),
        load(READ_ROLL, &[]),
        exchange(WAKE, &[AcqRel, Acquire, Release, Relaxed]),
        exchange(SET, &[]),
        load(IS_SET, &[]),
        exchange(PASS, &[AcqRel, Acquire]),
        store(MOVE_TO, &[]),
        load(INDEX, &[]),
        exchange(ARRIVE, &[]),
        load(ARRIVALS, &[]),
        store(PUBLISH, &[]),
        load(WAIT_NEWER, &[]),
        exchange(END, &[]),
        load(ROUNDS, &[]),
        store(SET_NOTE, &[]),
        load(NOTE, &[]),
        exchange(RELEASE, &[]),
        load(IS_OCCUPIED, &[]),
        fence(UNLOCK_FENCE, &[]),
        relaxed(SETTLE_FAILED),
    ],
    mistakes: &[SETTLES_BLINDLY],
};

#[test]
fn orderings() {
    PROTOCOL.check();
}

/// The access by which the caller of `notify` changes the word.
#[derive(Clone, Copy)]
enum Change {
    Store(Site),
    Exchange(Site),
    /// libc only releases. A fence follows.
    ByLibc(Site),
}

/// The access by which the question reads the word.
#[derive(Clone, Copy)]
enum Question {
    Load(Site),
    /// `ShmEvent::pass` of an event that resets itself.
    Event,
}

/// One announcement. The lower half counts those that are settled.
const ONE: u64 = 1 << 32;

fn open(roll: u64) -> u64 {
    (roll >> 32) - (roll & (ONE - 1))
}

fn with_all_settled(roll: u64) -> u64 {
    roll >> 32 << 32 | roll >> 32
}

struct Shared {
    /// 1 after the change.
    word: Word,
    value: UnsafeCell<u64>,
    sequence: Word,
    roll: Word,
    sleepers: Sleepers,
}

impl Shared {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            word: Word::new(0),
            value: UnsafeCell::new(0),
            sequence: Word::new(0),
            roll: Word::new(0),
            sleepers: Sleepers::default(),
        })
    }

    fn ask(&self, o: Orderings, question: Question) -> bool {
        match question {
            Question::Load(site) => self.word.load(o.of(site)) == 1,
            Question::Event => {
                self.word.load(o.of(IS_SET)) == 1 && self.word.swap(0, o.of(PASS)) == 1
            }
        }
    }

    /// `EventCount::wait` without the spin loop.
    fn wait(&self, o: Orderings, question: Question) {
        loop {
            let seen = self.sequence.load(o.of(SEQUENCE));
            let announced = self.roll.fetch_add(ONE, o.of(ANNOUNCE)) + ONE;
            if self.ask(o, question) {
                self.settle_if_alone(o, announced);
                return;
            }
            self.sleepers.wait(0, &self.sequence, seen);
            self.settle_if_alone(o, announced);
        }
    }

    fn change(&self, o: Orderings, change: Change) {
        match change {
            Change::Store(site) => self.word.store(1, o.of(site)),
            Change::Exchange(site) => drop(self.word.swap(1, o.of(site))),
            Change::ByLibc(site) => {
                self.word.swap(1, Release);
                fence_of(o.of(site));
            }
        }
    }

    /// `EventCount::notify`.
    fn notify(&self, o: Orderings) {
        let roll = self.roll.load(o.of(READ_ROLL));
        if open(roll) == 0 {
            return;
        }
        self.sequence.fetch_add(1, o.of(WAKE));
        if !self.sleepers.wake_one() {
            self.settle(o, roll);
        }
    }

    fn settle_if_alone(&self, o: Orderings, announced: u64) {
        if open(announced) == 1 {
            self.settle(o, announced);
        }
    }

    fn settle(&self, o: Orderings, read: u64) {
        let settled = with_all_settled(read);
        let (success, failure) = (o.of(SETTLE), o.of(SETTLE_FAILED));
        if o.has(SETTLES_BLINDLY) {
            self.roll.store(settled, Relaxed);
            return;
        }
        let _ = self.roll.compare_exchange(read, settled, success, failure);
    }
}

/// One thread waits for a change of the word. It then sees what was written before.
fn wakes(o: Orderings, change: Change, question: Question) {
    let wait = Box::new(move |shared: &Shared| {
        shared.wait(o, question);
        // SAFETY: loom reports a race with the notifier.
        shared.value.with(|value| unsafe { *value });
    });
    let notify = Box::new(move |shared: &Shared| {
        // SAFETY: loom reports a waiter that has not seen the change.
        shared.value.with_mut(|value| unsafe { *value = 1 });
        shared.change(o, change);
        shared.notify(o);
    });
    together(o, &Shared::new(), vec![wait, notify]);
}

fn set(o: Orderings, shared: &Shared) {
    shared.change(o, Change::Exchange(SET));
    shared.notify(o);
}

/// A waiter gets an event from each of two notifiers, one after the other. The second
/// notifier finds what the first has settled.
fn two_events(o: Orderings) {
    let first = Box::new(move |shared: &Shared| {
        shared.wait(o, Question::Event);
        set(o, shared);
    });
    let second = Box::new(move |shared: &Shared| set(o, shared));
    let shared = Shared::new();
    together(o, &shared, vec![first, second]);
    shared.wait(o, Question::Event);
}

/// A waiter finds the event set. Another waiter takes it, and sets it again.
fn taken_event(o: Orderings) {
    let shared = Shared::new();
    shared.word.store(1, Relaxed);
    let find = Box::new(move |shared: &Shared| {
        if shared.ask(o, Question::Event) {
            // SAFETY: loom reports a race with the other waiter.
            shared.value.with(|value| unsafe { *value });
        }
    });
    let take = Box::new(move |shared: &Shared| {
        if shared.word.swap(0, o.of(PASS)) == 1 {
            // SAFETY: loom reports a waiter that has not got the second event.
            shared.value.with_mut(|value| unsafe { *value = 1 });
            shared.word.swap(1, o.of(SET));
        }
    });
    together(o, &shared, vec![find, take]);
}

/// A thread notifies without a change, which is permitted.
fn vain_notification(o: Orderings) {
    let wait = Box::new(move |shared: &Shared| shared.wait(o, Question::Event));
    let notify = Box::new(move |shared: &Shared| shared.notify(o));
    let set = Box::new(move |shared: &Shared| set(o, shared));
    together(o, &Shared::new(), vec![wait, notify, set]);
}
