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
//! A woken waiter that wakes the next reads both words again. Relaxed loads suffice
//! there: the lock of the kernel's hash bucket orders it after the notifier, and it
//! sees no smaller count of waiters than the notifier did. (The code uses one function
//! for both, with `SeqCst`.)

use std::rc::Rc;
use std::sync::atomic::Ordering::{self, AcqRel, Acquire, Relaxed, Release, SeqCst};

use loom::sync::Mutex;

use super::kernel::Sleepers;
use super::protocol::{
    Orderings, Protocol, Scenario, Site, Thread, exchange, load, relaxed, together,
};
use super::word::{Word, fence};

const FILE: &str = "src/sync/condvar.rs";
const NOTIFY: Site = Site::new(FILE, "add", 0);
const ARE_THERE_WAITERS: Site = Site::new(FILE, "wake_one_of", 0);
const COME: Site = Site::new(FILE, "wait_in_kernel", 0);
const GO: Site = Site::new(FILE, "wait_in_kernel", 1);
const SEQUENCE: Site = Site::new(FILE, "sequence", 0);

const NO_BARRIER: &str = "the kernel has no barrier before it reads a futex word";
const NO_CHAIN: &str = "a woken waiter wakes none";

pub(super) static PROTOCOL: Protocol = Protocol {
    name: "condvar",
    scenarios: &[
        Scenario::new("notify_one", notify_one),
        Scenario::new("notify_all", notify_all).at_most(2),
    ],
    places: &[
        exchange(NOTIFY, &[]),
        load(ARE_THERE_WAITERS, &[]),
        exchange(COME, &[AcqRel, Acquire, Release, Relaxed]),
        relaxed(GO),
        relaxed(SEQUENCE),
    ],
    mistakes: &[NO_BARRIER, NO_CHAIN],
};

#[test]
fn orderings() {
    PROTOCOL.check();
}

struct Shared {
    has_item: Mutex<bool>,
    sequence: Word,
    waiters: Word,
    sleepers: Sleepers,
}

impl Shared {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            has_item: Mutex::new(false),
            sequence: Word::new(0),
            waiters: Word::new(0),
            sleepers: Sleepers::default(),
        })
    }

    /// `ShmCondvar::notify_one` and `notify_all`. All waiters are of the generation for
    /// which the notification is meant.
    fn notify(&self, o: Orderings) {
        self.sequence.fetch_add(1, o.of(NOTIFY));
        self.wake_one_of(o.of(ARE_THERE_WAITERS));
    }

    fn wake_one_of(&self, are_there_waiters: Ordering) {
        if self.waiters.load(are_there_waiters) != 0 {
            self.sleepers.wake_one();
        }
    }

    /// `ShmCondvar::wait_in_kernel`.
    fn wait_in_kernel(&self, o: Orderings, me: usize, seen: u64) {
        self.waiters.fetch_add(1, o.of(COME));
        let barrier = || {
            if !o.has(NO_BARRIER) {
                fence(SeqCst);
            }
        };
        self.sleepers.wait_behind(barrier, me, &self.sequence, seen);
        self.waiters.fetch_sub(1, o.of(GO));
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
        shared.notify(o);
        drop(has_item);
    });
    together(o, &Shared::new(), vec![consume, produce]);
}

/// Two waiters, which have read the sequence before. The generation ends with the first
/// change of the sequence.
fn notify_all(o: Orderings) {
    let wait = move |me: usize| -> Thread<Shared> {
        Box::new(move |shared| {
            shared.wait_in_kernel(o, me, 0);
            let is_over = shared.sequence.load(o.of(SEQUENCE)) != 0;
            if is_over && !o.has(NO_CHAIN) {
                shared.wake_one_of(Relaxed);
            }
        })
    };
    let notify = Box::new(move |shared: &Shared| shared.notify(o));
    together(o, &Shared::new(), vec![notify, wait(0), wait(1)]);
}
