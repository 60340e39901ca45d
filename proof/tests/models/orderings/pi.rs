//! The lock word of a mutex with priority inheritance, which the kernel assigns.
//!
//! The kernel's exchanges are relaxed here, because nothing says that a system call
//! orders the accesses of the program around it. Only the end of a thread is ordered.

use std::rc::Rc;
use std::sync::atomic::Ordering::{self, AcqRel, Relaxed};

use loom::cell::UnsafeCell;
use loom::thread;

use super::kernel::{OWNER_DIED, TID, WAITERS, end_holder};
use super::protocol::{
    Orderings, Protocol, Scenario, Site, Thread, exchange, load, relaxed, together,
};
use super::word::Word;

const PI: &str = "src/robust/pi.rs";
const LOOK: Site = Site::new(PI, "lock_pending", 0);
const LOCK: Site = Site::new(PI, "lock_pending", 1);
const LOCK_FAILED: Site = Site::new(PI, "lock_pending", 2);
const FINISH: Site = Site::new(PI, "finish_lock", 0);
const CLEAR_DIED: Site = Site::new(PI, "finish_lock", 1);
const UNLOCK: Site = Site::new(PI, "unlock_word", 0);
const UNLOCK_FAILED: Site = Site::new(PI, "unlock_word", 1);

const NO_ACQUIRE: &str = "no access of a lock acquires";
const NO_RELEASE_AFTER_FAILURE: &str = "no access releases after the failed exchange";

pub(super) static PROTOCOL: Protocol = Protocol {
    name: "pi",
    scenarios: &[
        Scenario::new("two lockers", two_lockers),
        Scenario::new("death of the holder", death),
    ],
    places: &[
        // Each lock has two of these accesses, and one of them suffices: see the first
        // mistake.
        load(LOOK, &[Relaxed]),
        exchange(LOCK, &[Relaxed]),
        load(FINISH, &[Relaxed]),
        // One name stands for the ordering of three accesses.
        exchange(UNLOCK, &[]),
        relaxed(LOCK_FAILED),
        relaxed(CLEAR_DIED),
        relaxed(UNLOCK_FAILED),
    ],
    mistakes: &[NO_ACQUIRE, NO_RELEASE_AFTER_FAILURE],
};

#[test]
fn orderings() {
    PROTOCOL.check();
}

fn acquire(o: Orderings, site: Site) -> Ordering {
    if o.has(NO_ACQUIRE) {
        Relaxed
    } else {
        o.of(site)
    }
}

struct Mutex {
    word: Word,
    data: UnsafeCell<u64>,
}

impl Mutex {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            word: Word::new(0),
            data: UnsafeCell::new(0),
        })
    }

    /// `pi::lock`.
    fn lock(&self, o: Orderings, tid: u64) {
        loop {
            let word = self.word.load(acquire(o, LOOK));
            if word & TID == tid {
                break;
            }
            if word == 0 {
                let (success, failure) = (acquire(o, LOCK), o.of(LOCK_FAILED));
                if self.word.compare_exchange(0, tid, success, failure).is_ok() {
                    break;
                }
                continue;
            }
            self.futex_lock_pi(word, tid);
            thread::yield_now();
        }
        let word = self.word.load(acquire(o, FINISH));
        if word & OWNER_DIED != 0 {
            let (next, order) = (word & !OWNER_DIED, o.of(CLEAR_DIED));
            let _ = self.word.compare_exchange(word, next, order, Relaxed);
        }
    }

    /// Announces this thread. If the owner has died, the kernel assigns the mutex.
    fn futex_lock_pi(&self, word: u64, tid: u64) {
        let next = if word & OWNER_DIED != 0 {
            tid | OWNER_DIED
        } else {
            word | WAITERS
        };
        let _ = self.word.compare_exchange(word, next, Relaxed, Relaxed);
    }

    /// `pi::unlock_word`. The mutex has another waiter if the word says so: `waiter`.
    fn unlock(&self, o: Orderings, tid: u64, waiter: u64) {
        let (success, failure) = (o.of(UNLOCK), o.of(UNLOCK_FAILED));
        let unlocked = self.word.compare_exchange(tid, 0, success, failure);
        if unlocked.is_ok() {
            return;
        }
        if !o.has(NO_RELEASE_AFTER_FAILURE) {
            self.word.fetch_or(0, o.of(UNLOCK));
        }
        // `FUTEX_UNLOCK_PI` writes the next owner.
        self.word.swap(waiter, Relaxed);
    }

    fn change_data(&self) {
        // SAFETY: loom reports a thread that is not excluded.
        self.data.with_mut(|data| unsafe { *data += 1 });
    }
}

fn two_lockers(o: Orderings) {
    let lock = move |tid: u64, other: u64| -> Thread<Mutex> {
        Box::new(move |mutex| {
            mutex.lock(o, tid);
            mutex.change_data();
            mutex.unlock(o, tid, other);
        })
    };
    together(o, &Mutex::new(), vec![lock(1, 2), lock(2, 1)]);
}

fn death(o: Orderings) {
    let lock = Box::new(move |mutex: &Mutex| {
        mutex.lock(o, 1);
        mutex.change_data();
        mutex.unlock(o, 1, 2);
    });
    let die = Box::new(move |mutex: &Mutex| {
        mutex.lock(o, 2);
        mutex.change_data();
        end_holder(&mutex.word, AcqRel);
    });
    together(o, &Mutex::new(), vec![lock, die]);
}
