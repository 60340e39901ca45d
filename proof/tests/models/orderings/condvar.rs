//! The system call that a notifier of a condition variable may skip: the store-buffer
//! pattern.
//!
//! | thread | first | between | then |
//! |---|---|---|---|
//! | waiter | adds to `waiters` | the kernel's barrier A, before it reads a futex word | reads `sequence` |
//! | notifier | adds to `sequence` | both accesses are sequentially consistent | reads `waiters` |
//!
//! If both read the old values, the waiter sleeps and no process wakes it.
//!
//! A fence in place of the notifier's two accesses is equivalent here. Let both threads
//! read the old values. Then, in the single order of all sequentially consistent
//! operations, the notifier's load precedes the waiter's addition, and the waiter's
//! barrier precedes the notifier's addition. That is a cycle, with the accesses as well
//! as with the fence.
//!
//! A waiter that was moved reads the sequence once more, before it locks the mutex. The
//! kernel's lock of the queue orders that read behind the notifier's addition.
//!
//! All else happens under the mutex. `mutex` may have any value. A notifier that moves
//! the waiters marks the lock word for its own unlock. A moved waiter marks it by the
//! exchange that locks.

use std::rc::Rc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

use loom::sync::{Mutex, MutexGuard};

use super::kernel::Sleepers;
use super::protocol::{
    Orderings, Protocol, Scenario, Site, Thread, exchange, load, relaxed, together,
};
use super::word::{Word, fence};

const FILE: &str = "src/sync/condvar.rs";
const NOTIFY: Site = Site::new(FILE, "add", 0);
const ARE_THERE_WAITERS: Site = Site::new(FILE, "has_waiters", 0);
const MUTEX: Site = Site::new(FILE, "with_held_mutex", 0);
const SET_MUTEX: Site = Site::new(FILE, "store_distance_to", 0);
const SEE_MUTEX: Site = Site::new(FILE, "store_distance_to", 1);
const COME: Site = Site::new(FILE, "wait_in_kernel", 0);
const GO: Site = Site::new(FILE, "wait_in_kernel", 1);
const SEQUENCE: Site = Site::new(FILE, "sequence", 0);
const MARK: Site = Site::new("src/robust/mutex.rs", "watch", 0);

const NO_BARRIER: &str = "the kernel has no barrier before it reads a futex word";
const ONE_WOKEN: &str = "`notify_all` without the mutex wakes one waiter";
const NOT_MARKED: &str = "`notify_all` moves the waiters and does not mark the lock word";
const LOCKED_UNMARKED: &str = "a woken waiter locks without the mark";

pub(super) static PROTOCOL: Protocol = Protocol {
    name: "condvar",
    scenarios: &[
        Scenario::new("notify_one", notify_one),
        Scenario::new("notify_all without the mutex", notify_all)
            .at_most(2)
            .at_most_in_large(4),
        Scenario::new("notify_all under the mutex", notify_all_under_mutex)
            .at_most(2)
            .at_most_in_large(4),
    ],
    places: &[
        exchange(NOTIFY, &[]),
        load(ARE_THERE_WAITERS, &[]),
        exchange(COME, &[AcqRel, Acquire, Release, Relaxed]),
        relaxed(MUTEX),
        relaxed(SET_MUTEX),
        relaxed(SEE_MUTEX),
        relaxed(GO),
        relaxed(SEQUENCE),
        relaxed(MARK),
    ],
    mistakes: &[NO_BARRIER, ONE_WOKEN, NOT_MARKED, LOCKED_UNMARKED],
};

#[test]
fn orderings() {
    PROTOCOL.check();
}

/// The distance to the mutex.
const DISTANCE: u64 = 1;

struct Shared {
    /// The mutex of the waiters, with the data.
    has_item: Mutex<bool>,
    /// `FUTEX_WAITERS` in the lock word. Only the holder accesses it.
    mark: Word,
    sequence: Word,
    waiters: Word,
    mutex: Word,
    sleepers: Sleepers,
}

impl Shared {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            has_item: Mutex::new(false),
            mark: Word::new(0),
            sequence: Word::new(0),
            waiters: Word::new(0),
            mutex: Word::new(0),
            sleepers: Sleepers::default(),
        })
    }

    /// `add`, and then `has_waiters`.
    fn begin_notification(&self, o: Orderings) -> bool {
        self.sequence.fetch_add(1, o.of(NOTIFY));
        self.waiters.load(o.of(ARE_THERE_WAITERS)) != 0
    }

    /// `with_held_mutex`: whether a holder of the mutex knows that it is the waiters'.
    fn knows_mutex(&self, o: Orderings) -> bool {
        self.mutex.load(o.of(MUTEX)) == DISTANCE
    }

    /// `RobustMutex::watch`, by the holder.
    fn mark(&self, o: Orderings) {
        self.mark.fetch_or(1, o.of(MARK));
    }

    /// `RobustLock::unlock`.
    fn unlock(&self, held: MutexGuard<'_, bool>) {
        let was_marked = self.mark.swap(0, Relaxed) != 0;
        drop(held);
        if was_marked {
            self.sleepers.wake_moved();
        }
    }

    /// `ShmCondvar::store_distance_to`, where all waiters use one mutex.
    fn store_distance(&self, o: Orderings) {
        let (success, failure) = (o.of(SET_MUTEX), o.of(SEE_MUTEX));
        // A failure has read the same distance.
        let _ = self.mutex.compare_exchange(0, DISTANCE, success, failure);
    }

    /// `ShmCondvar::wait_in_kernel`.
    fn wait_in_kernel(&self, o: Orderings, me: usize, seen: u64) {
        self.store_distance(o);
        self.waiters.fetch_add(1, o.of(COME));
        let barrier = || {
            if !o.has(NO_BARRIER) {
                fence(SeqCst);
            }
        };
        self.sleepers.wait_behind(barrier, me, &self.sequence, seen);
        self.waiters.fetch_sub(1, o.of(GO));
    }

    /// The end of `ShmCondvar::wait_raw`. The generation has ended with the first
    /// change of the sequence.
    fn relock(&self, o: Orderings, seen: u64) -> MutexGuard<'_, bool> {
        let is_over = self.sequence.load(o.of(SEQUENCE)) != seen;
        let held = self.has_item.lock().unwrap();
        if is_over && !o.has(LOCKED_UNMARKED) {
            // The exchange of `ListAttempt::try_lock`, which has locked.
            self.mark.fetch_or(1, Relaxed);
        }
        held
    }
}

/// One consumer waits for an item of one producer, both under the lock.
fn notify_one(o: Orderings) {
    let consume = Box::new(move |shared: &Shared| {
        loop {
            let has_item = shared.has_item.lock().unwrap();
            if *has_item {
                return;
            }
            let seen = shared.sequence.load(o.of(SEQUENCE));
            drop(has_item);
            shared.wait_in_kernel(o, 0, seen);
        }
    });
    let produce = Box::new(move |shared: &Shared| {
        let mut has_item = shared.has_item.lock().unwrap();
        *has_item = true;
        let has_waiters = shared.begin_notification(o);
        let is_deferred = has_waiters && shared.knows_mutex(o);
        if has_waiters && !is_deferred {
            shared.sleepers.wake_one();
        }
        drop(has_item);
        if is_deferred {
            shared.sleepers.wake_one();
        }
    });
    together(o, &Shared::new(), vec![consume, produce]);
}

/// Two waiters, which have read the sequence before.
fn notify_all(o: Orderings) {
    let wait = move |me: usize| -> Thread<Shared> {
        Box::new(move |shared| shared.wait_in_kernel(o, me, 0))
    };
    let notify = Box::new(move |shared: &Shared| {
        if !shared.begin_notification(o) {
            return;
        }
        if o.has(ONE_WOKEN) {
            shared.sleepers.wake_one();
        } else {
            shared.sleepers.wake_all();
        }
    });
    together(o, &Shared::new(), vec![notify, wait(0), wait(1)]);
}

/// The same waiters, which lock again. The notifier holds the mutex, and moves them.
fn notify_all_under_mutex(o: Orderings) {
    let wait = move |me: usize| -> Thread<Shared> {
        Box::new(move |shared| {
            shared.wait_in_kernel(o, me, 0);
            shared.unlock(shared.relock(o, 0));
        })
    };
    let notify = Box::new(move |shared: &Shared| {
        let held = shared.has_item.lock().unwrap();
        if shared.begin_notification(o) {
            if shared.knows_mutex(o) {
                if !o.has(NOT_MARKED) {
                    shared.mark(o);
                }
                shared.sleepers.move_all();
            } else {
                shared.sleepers.wake_all();
            }
        }
        shared.unlock(held);
    });
    together(o, &Shared::new(), vec![notify, wait(0), wait(1)]);
}
