//! The readers-writer lock: the store-buffer pattern of a reader and a writer, and what
//! a phase hands over.
//!
//! | thread | first | then |
//! |---|---|---|
//! | reader | takes its seat | reads the phase |
//! | writer | closes the phase | looks at the seats |
//!
//! If both read the old values, they are inside together.

use std::rc::Rc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};

use loom::cell::UnsafeCell;

use super::mutex::{FAST, RELEASE, SLOW};
use super::protocol::{
    Orderings, Protocol, Scenario, Site, exchange, fence, load, relaxed, store, together,
};
use super::seat::{IS_OCCUPIED, NOTE, SET_NOTE, SLOW_FENCE, Seat};
use super::word::Word;

const SET_POISON: Site = Site::new("src/sync/poison.rs", "set", 0);
const POISON: Site = Site::new("src/sync/poison.rs", "is_set", 0);
const CAUSE: Site = Site::new("src/sync/poison.rs", "cause", 0);
const CLEAR_POISON: Site = Site::new("src/sync/poison.rs", "clear", 0);

pub(super) static PROTOCOL: Protocol = Protocol {
    name: "rwlock",
    scenarios: &[
        Scenario::new("reader by the fast path", |o| {
            reader_and_writer(o, Path::Fast)
        }),
        Scenario::new("reader by the slow path", |o| {
            reader_and_writer(o, Path::Slow)
        }),
        Scenario::new("death of the writer inside", death_of_writer),
    ],
    places: &[
        exchange(FAST, &[]),
        exchange(SLOW, &[Relaxed]),
        fence(SLOW_FENCE, &[]),
        exchange(RELEASE, &[AcqRel, Release]),
        store(SET_NOTE, &[]),
        load(NOTE, &[]),
        load(IS_OCCUPIED, &[]),
        relaxed(SET_POISON),
        relaxed(POISON),
        relaxed(CAUSE),
        relaxed(CLEAR_POISON),
    ],
    mistakes: &[],
};

#[test]
fn orderings() {
    PROTOCOL.check();
}

const CLOSED: u64 = 1;

struct Lock {
    /// Its note is the phase.
    writer: Seat,
    reader: Seat,
    inside: Word,
    poison: Word,
    data: UnsafeCell<u64>,
}

/// How a reader takes its seat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Path {
    Fast,
    Slow,
}

impl Lock {
    fn new(writer: Seat) -> Rc<Self> {
        Rc::new(Self {
            writer,
            reader: Seat::vacant(),
            inside: Word::new(0),
            poison: Word::new(0),
            data: UnsafeCell::new(0),
        })
    }

    /// `RawRwLock::read` and `end_read`. A reader that may not come inside gives up.
    fn read(&self, o: Orderings, path: Path) {
        let seat = &self.reader;
        let is_seated = match path {
            Path::Fast => {
                let seated = seat.word.compare_exchange(0, 1, o.of(FAST), Relaxed);
                seated.is_ok()
            }
            Path::Slow => seat.try_take_slow(o, 1),
        };
        assert!(is_seated, "no other thread takes it");
        let phase = self.writer.note(o);
        if phase & CLOSED == 0 {
            // SAFETY: loom reports a writer that is inside.
            let data = self.data.with(|data| unsafe { *data });
            let is_poisoned = self.poison.load(o.of(POISON)) != 0;
            assert!(data != 7 || is_poisoned, "wrong: not told of the death");
        }
        seat.leave(o);
    }

    /// `RawRwLock::write` and `end_write`. The seat of the writer is left out.
    fn write(&self, o: Orderings) {
        let phase = self.writer.note(o);
        self.writer.set_note(o, phase | CLOSED);
        if !self.reader.is_occupied(o) {
            self.inside.store(1, o.of(SET_POISON));
            // SAFETY: loom reports a reader that is inside.
            self.data.with_mut(|data| unsafe { *data = 1 });
            self.inside.store(0, o.of(CLEAR_POISON));
        }
        self.writer.set_note(o, phase + 2);
    }
}

/// The second round finds what the first has left.
fn reader_and_writer(o: Orderings, path: Path) {
    let write = Box::new(move |lock: &Lock| {
        lock.write(o);
        lock.write(o);
    });
    let read = Box::new(move |lock: &Lock| lock.read(o, path));
    together(o, &Lock::new(Seat::vacant()), vec![write, read]);
}

/// The next thread in the writer's seat poisons, and opens the next phase.
fn death_of_writer(o: Orderings) {
    let lock = Lock::new(Seat::occupied(1));
    lock.writer.record.store(CLOSED, Relaxed);
    let writer = Box::new(move |lock: &Lock| {
        lock.inside.store(1, o.of(SET_POISON));
        // SAFETY: loom reports a reader that is inside.
        lock.data.with_mut(|data| unsafe { *data = 7 });
        lock.writer.die();
    });
    // `RawRwLock::end_phase_of_dead_writer`
    let next = Box::new(move |lock: &Lock| {
        if lock.writer.try_take_slow(o, 2) {
            let phase = lock.writer.note(o);
            assert!(lock.inside.load(o.of(CAUSE)) == 1, "wrong: not inside");
            lock.poison.store(1, o.of(SET_POISON));
            lock.inside.store(0, o.of(CLEAR_POISON));
            lock.writer.set_note(o, phase + 1);
            lock.writer.leave(o);
        }
    });
    let reader = Box::new(move |lock: &Lock| lock.read(o, Path::Fast));
    together(o, &lock, vec![writer, next, reader]);
}
