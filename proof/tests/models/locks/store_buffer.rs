//! The system call that a notifier may skip: the store-buffer pattern, on the memory
//! model.
//!
//! | thread | first | between | then |
//! |---|---|---|---|
//! | waiter | adds to `waiters` | the kernel's barrier A, before it reads a futex word | reads `sequence` |
//! | notifier | adds to `sequence` | both accesses are sequentially consistent | reads `waiters` |
//!
//! If both read the old values, the waiter sleeps and no process wakes it. `loom` tries
//! every interleaving, and for each load every value that the memory model allows.
//!
//! `loom` treats sequentially consistent accesses as acquire and release, but it knows
//! the fence. Therefore the notifier here has a fence between its accesses, which are
//! `SeqCst` in the code. For this pattern the two are equivalent. Let both threads read
//! the old values. Then, in the single order of all sequentially consistent operations,
//! the notifier's load precedes the waiter's addition, and the waiter's barrier
//! precedes the notifier's addition. That is a cycle, with the accesses as well as with
//! the fence.
//!
//! A woken waiter that wakes the next reads both words again. Relaxed loads suffice
//! there: the lock of the kernel's hash bucket orders it after the notifier, and it
//! sees no smaller count of waiters than the notifier did. (The code uses one function
//! for both, with `SeqCst`.)
//!
//! The kernel's hash bucket is a lock with a queue.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use crate::report;
use crate::size::Size;

/// The ordering of the notifier's two accesses. The code's is `SeqCst`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notifier {
    SeqCst,
    AcquireRelease,
}

impl fmt::Display for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SeqCst => "sequentially consistent notifier",
            Self::AcquireRelease => "notifier with acquire and release only",
        })
    }
}

/// The barrier between the waiter's two accesses. The kernel's is full; without it,
/// only the lock of the bucket is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Barrier {
    Full,
    None,
}

impl fmt::Display for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full barrier in the kernel",
            Self::None => "no barrier in the kernel",
        })
    }
}

/// The wake chain. In the code, a woken waiter wakes the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    WakesNext,
    WakesNone,
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WakesNext => "a woken waiter wakes the next",
            Self::WakesNone => "a woken waiter wakes none",
        })
    }
}

/// The number of waiters.
const WAITERS: usize = 2;

/// The kernel's part.
#[derive(Default)]
struct Bucket {
    /// The waiters, in the order in which they are woken.
    queue: Mutex<Vec<usize>>,
    woken: [Condvar; WAITERS],
}

struct Shared {
    has_item: Mutex<bool>,
    sequence: AtomicU32,
    waiters: AtomicU32,
    bucket: Bucket,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            has_item: Mutex::new(false),
            sequence: AtomicU32::new(0),
            waiters: AtomicU32::new(0),
            bucket: Bucket::default(),
        })
    }

    /// Waits for the item as the only consumer: `ShmCondvar::wait_raw` without the spin
    /// loop.
    fn wait_for_item(&self, barrier: Barrier) {
        loop {
            let has_item = self.has_item.lock().unwrap();
            if *has_item {
                return;
            }
            let seen = self.sequence.load(Ordering::Relaxed);
            drop(has_item);
            self.wait(0, seen, barrier);
        }
    }

    /// Puts the item: `ShmCondvar::notify_one`, under the lock.
    fn put_item(&self, notifier: Notifier) {
        let mut has_item = self.has_item.lock().unwrap();
        *has_item = true;
        self.notify(notifier);
        drop(has_item);
    }

    /// Waits for the sequence to change, as one of several waiters that have read it
    /// before. The generation ends with the first change of the sequence.
    fn wait_for_notify_all(&self, me: usize, barrier: Barrier, chain: Chain) {
        let seen = 0;
        self.wait(me, seen, barrier);
        let is_over = self.sequence.load(Ordering::Relaxed) != seen;
        if chain == Chain::WakesNext && is_over && self.waiters.load(Ordering::Relaxed) != 0 {
            self.futex_wake_one();
        }
    }

    fn wait(&self, me: usize, seen: u32, barrier: Barrier) {
        self.waiters.fetch_add(1, Ordering::AcqRel);
        self.futex_wait(me, seen, barrier);
        self.waiters.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notifies. All waiters are of the generation for which the notification is meant.
    fn notify(&self, notifier: Notifier) {
        self.sequence.fetch_add(1, Ordering::AcqRel);
        if notifier == Notifier::SeqCst {
            fence(Ordering::SeqCst);
        }
        if self.waiters.load(Ordering::Acquire) != 0 {
            self.futex_wake_one();
        }
    }

    fn futex_wait(&self, me: usize, seen: u32, barrier: Barrier) {
        let mut queue = self.bucket.queue.lock().unwrap();
        if barrier == Barrier::Full {
            fence(Ordering::SeqCst);
        }
        if self.sequence.load(Ordering::Relaxed) != seen {
            return;
        }
        queue.push(me);
        while queue.contains(&me) {
            queue = self.bucket.woken[me].wait(queue).unwrap();
        }
    }

    fn futex_wake_one(&self) {
        let mut queue = self.bucket.queue.lock().unwrap();
        if !queue.is_empty() {
            let first = queue.remove(0);
            self.bucket.woken[first].notify_one();
        }
    }
}

/// Tries every interleaving of a scenario, or those with a limited number of
/// preemptions. Returns whether every thread ends in each of them.
pub(super) fn terminates(
    what: &str,
    preemptions: Option<usize>,
    scenario: impl Fn() + Send + Sync + 'static,
) -> bool {
    holds(what, "every thread ends", "deadlock", preemptions, scenario)
}

/// Tries interleavings, like [`terminates`]. Returns whether all of them end without a
/// panic. A panic must have a message that begins with `fault`.
pub(super) fn holds(
    what: &str,
    good: &'static str,
    fault: &'static str,
    preemptions: Option<usize>,
    scenario: impl Fn() + Send + Sync + 'static,
) -> bool {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = preemptions;
    let begin = Instant::now();
    let checked = std::panic::catch_unwind(AssertUnwindSafe(|| model.check(scenario)));
    let result = match &checked {
        Ok(()) => good,
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map_or("", String::as_str);
            assert!(message.starts_with(fault), "{what}: {message}");
            fault
        }
    };
    report::memory_model(what, result, begin.elapsed());
    checked.is_ok()
}

/// Runs one consumer and one producer.
fn notify_one_terminates(notifier: Notifier, barrier: Barrier) -> bool {
    terminates(
        &format!("notify_one: {notifier}, {barrier}"),
        None,
        move || {
            let shared = Shared::new();
            let consumer = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.wait_for_item(barrier))
            };
            shared.put_item(notifier);
            consumer.join().unwrap();
        },
    )
}

/// Runs two waiters and one `notify_all`. Only the large size has no limit of
/// preemptions.
fn notify_all_terminates(notifier: Notifier, barrier: Barrier, chain: Chain) -> bool {
    let what = format!("notify_all: {notifier}, {barrier}, {chain}");
    let preemptions = match Size::chosen() {
        Size::Small => Some(3),
        Size::Large => None,
    };
    terminates(&what, preemptions, move || {
        let shared = Shared::new();
        let waiters: [_; WAITERS] = std::array::from_fn(|me| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.wait_for_notify_all(me, barrier, chain))
        });
        shared.notify(notifier);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    })
}

#[test]
fn code_orderings_suffice() {
    assert!(notify_one_terminates(Notifier::SeqCst, Barrier::Full));
}

#[test]
fn weaker_orderings_deadlock() {
    assert!(!notify_one_terminates(
        Notifier::AcquireRelease,
        Barrier::Full
    ));
    assert!(!notify_one_terminates(Notifier::SeqCst, Barrier::None));
}

#[test]
fn chain_needs_no_further_barrier() {
    use Chain::{WakesNext, WakesNone};
    assert!(notify_all_terminates(
        Notifier::SeqCst,
        Barrier::Full,
        WakesNext
    ));
    for (notifier, barrier, chain) in [
        (Notifier::AcquireRelease, Barrier::Full, WakesNext),
        (Notifier::SeqCst, Barrier::None, WakesNext),
        (Notifier::SeqCst, Barrier::Full, WakesNone),
    ] {
        assert!(!notify_all_terminates(notifier, barrier, chain));
    }
}
