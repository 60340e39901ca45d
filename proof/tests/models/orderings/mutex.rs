//! The lock word of a mutex: hand-over, death of the holder, sleeping waiters.
//!
//! The data is a plain cell, of which loom reports races. `holder`, `__owner` and the
//! poison are relaxed words, which the lock orders.

use std::rc::Rc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use loom::cell::UnsafeCell;

use super::kernel::{OWNER_DIED, Sleepers, TID, WAITERS, end_holder};
use super::protocol::{Orderings, Protocol, Scenario, Site, Thread, exchange, relaxed, together};
use super::word::Word;

const LOCK: &str = "src/robust/lock.rs";
pub(super) const FAST: Site = Site::new(LOCK, "try_lock_fast", 0);
const FAST_FAILED: Site = Site::new(LOCK, "try_lock_fast", 1);
const READ: Site = Site::new(LOCK, "try_lock", 0);
pub(super) const SLOW: Site = Site::new(LOCK, "try_lock", 1);
const SLOW_FAILED: Site = Site::new(LOCK, "try_lock", 2);
const ANNOUNCE: Site = Site::new(LOCK, "wait", 0);
const ANNOUNCE_FAILED: Site = Site::new(LOCK, "wait", 1);
pub(super) const RELEASE: Site = Site::new(LOCK, "release_word", 0);

const SET_OWNER: Site = Site::new("src/robust/layout/glibc.rs", "set_owner", 0);
const CLEAR_OWNER: Site = Site::new("src/robust/layout/glibc.rs", "clear_owner", 0);
const LAST_OWNER: Site = Site::new("src/robust/layout/glibc.rs", "owner", 0);
const RECORD_HOLDER: Site = Site::new("src/sync/robust_lock.rs", "record_holder", 0);
const CLEAR_HOLDER: Site = Site::new("src/sync/robust_lock.rs", "clear_holder", 0);
const SET_POISON: Site = Site::new("src/sync/poison.rs", "set", 0);
const IS_POISONED: Site = Site::new("src/sync/poison.rs", "is_set", 0);
const WATCH: Site = Site::new("src/robust/mutex.rs", "watch", 0);

const NO_RELEASE_AT_DEATH: &str = "the kernel's exchange at a death is relaxed";
const NO_WAITERS_AFTER_SLEEP: &str = "a woken waiter locks without `FUTEX_WAITERS`";

pub(super) static PROTOCOL: Protocol = Protocol {
    name: "mutex",
    scenarios: &[
        Scenario::new("two lockers", two_lockers),
        Scenario::new("death of the holder", death).at_most(3),
        Scenario::new("a waiter among three lockers", three_lockers).at_most(1),
        Scenario::new("death of a watched holder", watched),
    ],
    places: &[
        exchange(FAST, &[AcqRel, Acquire]),
        exchange(SLOW, &[]),
        exchange(RELEASE, &[AcqRel, Release]),
        relaxed(FAST_FAILED),
        relaxed(READ),
        relaxed(SLOW_FAILED),
        relaxed(ANNOUNCE),
        relaxed(ANNOUNCE_FAILED),
        relaxed(SET_OWNER),
        relaxed(CLEAR_OWNER),
        relaxed(LAST_OWNER),
        relaxed(RECORD_HOLDER),
        relaxed(CLEAR_HOLDER),
        relaxed(SET_POISON),
        relaxed(IS_POISONED),
        relaxed(WATCH),
    ],
    mistakes: &[NO_RELEASE_AT_DEATH, NO_WAITERS_AFTER_SLEEP],
};

#[test]
fn orderings() {
    PROTOCOL.check();
}

/// A `ShmMutex`.
pub(super) struct Mutex {
    word: Word,
    owner: Word,
    holder: Word,
    poison: Word,
    data: UnsafeCell<u64>,
    sleepers: Sleepers,
}

impl Mutex {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            word: Word::new(0),
            owner: Word::new(0),
            holder: Word::new(0),
            poison: Word::new(0),
            data: UnsafeCell::new(0),
            sleepers: Sleepers::default(),
        })
    }

    /// `RobustLock::try_lock_fast`, and then `lock_slow`.
    fn lock(&self, o: Orderings, me: usize) {
        let tid = me as u64 + 1;
        let fast = self
            .word
            .compare_exchange(0, tid, o.of(FAST), o.of(FAST_FAILED));
        if fast.is_ok() || !self.lock_slow(o, me) {
            assert_eq!(self.owner.load(o.of(LAST_OWNER)), 0, "wrong owner");
            assert_eq!(self.holder.load(Relaxed), 0, "wrong holder");
            self.owner.store(tid, o.of(SET_OWNER));
        } else {
            // `RobustLock::recover_owner_death`
            let dead = self.owner.load(o.of(LAST_OWNER));
            assert!(dead != 0, "wrong owner");
            assert_eq!(self.holder.load(Relaxed), dead, "wrong holder");
            self.poison.store(dead, o.of(SET_POISON));
            self.owner.store(tid, o.of(SET_OWNER));
        }
        self.holder.store(tid, o.of(RECORD_HOLDER));
    }

    /// `ListAttempt`, in `lock_contended`. Returns whether the last holder died.
    fn lock_slow(&self, o: Orderings, me: usize) -> bool {
        let mut waiters = 0;
        loop {
            let word = self.word.load(o.of(READ));
            if word & TID == 0 {
                let locked = (me as u64 + 1) | waiters | word & WAITERS;
                let (success, failure) = (o.of(SLOW), o.of(SLOW_FAILED));
                let exchanged = self.word.compare_exchange(word, locked, success, failure);
                if exchanged.is_ok() {
                    return word & OWNER_DIED != 0;
                }
                continue;
            }
            let announced = word | WAITERS;
            let (success, failure) = (o.of(ANNOUNCE), o.of(ANNOUNCE_FAILED));
            if word != announced
                && self
                    .word
                    .compare_exchange(word, announced, success, failure)
                    .is_err()
            {
                continue;
            }
            if !o.has(NO_WAITERS_AFTER_SLEEP) {
                waiters = WAITERS;
            }
            self.sleepers.wait(me, &self.word, announced);
        }
    }

    fn unlock(&self, o: Orderings) {
        self.holder.store(0, o.of(CLEAR_HOLDER));
        self.owner.store(0, o.of(CLEAR_OWNER));
        let word = self.word.swap(0, o.of(RELEASE));
        if word & WAITERS != 0 {
            self.sleepers.wake_one();
        }
    }

    /// The end of the holder.
    fn die(&self, o: Orderings) {
        let ordering = if o.has(NO_RELEASE_AT_DEATH) {
            Relaxed
        } else {
            AcqRel
        };
        if end_holder(&self.word, ordering) {
            self.sleepers.wake_one();
        }
    }

    fn change_data(&self) {
        // SAFETY: loom reports a thread that is not excluded.
        self.data.with_mut(|data| unsafe { *data += 1 });
    }

    fn lock_and_change(&self, o: Orderings, me: usize) {
        self.lock(o, me);
        self.change_data();
        self.unlock(o);
    }
}

fn two_lockers(o: Orderings) {
    let mutex = Mutex::new();
    together(
        o,
        &mutex,
        vec![
            Box::new(move |mutex| mutex.lock_and_change(o, 0)),
            Box::new(move |mutex| mutex.lock_and_change(o, 1)),
        ],
    );
}

/// The word has `FUTEX_WAITERS` from the beginning, so that both waiters may sleep.
fn three_lockers(o: Orderings) {
    let mutex = Mutex::new();
    mutex.word.store(1 | WAITERS, Relaxed);
    let wait = move |me: usize| -> Thread<Mutex> {
        Box::new(move |mutex| {
            mutex.lock_slow(o, me);
            mutex.change_data();
            mutex.unlock(o);
        })
    };
    let unlock = Box::new(move |mutex: &Mutex| {
        mutex.change_data();
        mutex.unlock(o);
    });
    together(o, &mutex, vec![unlock, wait(1), wait(2)]);
}

/// The holder dies with changed data. The heir poisons, and the next locker sees both.
fn death(o: Orderings) {
    let mutex = Mutex::new();
    together(
        o,
        &mutex,
        vec![
            Box::new(move |mutex| mutex.lock_and_change(o, 0)),
            Box::new(move |mutex| {
                mutex.lock(o, 1);
                mutex.change_data();
                mutex.die(o);
            }),
        ],
    );
    mutex.lock_and_change(o, 2);
    assert!(mutex.poison.load(o.of(IS_POISONED)) == 2, "wrong poison");
}

/// A watcher of a seat sleeps on its lock word, and no thread notifies.
fn watched(o: Orderings) {
    let mutex = Mutex::new();
    mutex.lock(o, 1);
    let watch = Box::new(move |mutex: &Mutex| {
        loop {
            let word = mutex.word.load(Relaxed);
            if word & TID == 0 {
                return;
            }
            let (marked, order) = (word | WAITERS, o.of(WATCH));
            let exchanged = mutex.word.compare_exchange(word, marked, order, order);
            if exchanged.is_ok() {
                mutex.sleepers.wait(0, &mutex.word, marked);
            }
        }
    });
    together(o, &mutex, vec![watch, Box::new(move |mutex| mutex.die(o))]);
}
