//! That a notifier may skip the system call: the store-buffer pattern, on the memory
//! model itself.
//!
//! | who | first | between | then |
//! |---|---|---|---|
//! | sleeper | `sleepers` + 1 | the kernel's barrier A, before it reads a futex word | read `sequence` |
//! | notifier | `sequence` + 1 | both are sequentially consistent | read `sleepers` |
//!
//! If both read what was before, the sleeper sleeps and nobody wakes it. `loom` tries
//! every interleaving, and for every read every value that the memory model lets it
//! have.
//!
//! It treats sequentially consistent accesses as acquire and release only, but knows the
//! fence. So where the code says `SeqCst` for both accesses of the notifier, here
//! stands a fence between them. For this pattern it comes to the same: if both read what
//! was before, then in the one order of all that is sequentially consistent the
//! notifier's read comes before the sleeper's addition, and the sleeper's barrier before
//! the notifier's addition, which is a circle, with the accesses as with the fence.
//!
//! Who is called, and calls the next one, reads both words once more. Relaxed is
//! enough there: the bucket's lock makes it come after the notifier, so it sees no fewer
//! sleepers than that one. (The code counts sleepers in the same function for both, which
//! is `SeqCst`.)
//!
//! The kernel's hash bucket is a lock with a queue.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use crate::size::Size;

/// How the notifier's two accesses are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notifier {
    /// As in `ShmCondvar::add` and `wake_one_of`.
    SeqCst,
    AcquireRelease,
}

/// What stands between the sleeper's two accesses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Barrier {
    /// As in the kernel.
    Full,
    /// Nothing but the bucket's lock.
    None,
}

/// Whether who is called calls the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Called {
    /// As in `ShmCondvar::sleep`.
    CallsTheNext,
    CallsNobody,
}

/// The most sleepers.
const SLEEPERS: usize = 2;

/// The kernel's part.
#[derive(Default)]
struct Bucket {
    /// Who sleeps, and has not been woken: the one that came first is woken first.
    asleep: Mutex<Vec<usize>>,
    woken: [Condvar; SLEEPERS],
}

struct Shared {
    has_item: Mutex<bool>,
    sequence: AtomicU32,
    sleepers: AtomicU32,
    bucket: Bucket,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            has_item: Mutex::new(false),
            sequence: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
            bucket: Bucket::default(),
        })
    }

    /// A consumer, the only one: `ShmCondvar::wait_raw` without the spin.
    fn wait_for_item(&self, barrier: Barrier) {
        loop {
            let has_item = self.has_item.lock().unwrap();
            if *has_item {
                return;
            }
            let seen = self.sequence.load(Ordering::Relaxed);
            drop(has_item);
            self.sleep(0, seen, barrier);
        }
    }

    /// A producer: `ShmCondvar::notify_one`, under the lock.
    fn put_item(&self, notifier: Notifier) {
        let mut has_item = self.has_item.lock().unwrap();
        *has_item = true;
        self.notify(notifier);
        drop(has_item);
    }

    /// One of several that read the sequence before all this, and wait for it to change:
    /// `ShmCondvar::sleep`, and the generation is over as soon as the sequence is
    /// another.
    fn wait_for_call(&self, me: usize, barrier: Barrier, called: Called) {
        let seen = 0;
        self.sleep(me, seen, barrier);
        let is_over = self.sequence.load(Ordering::Relaxed) != seen;
        if called == Called::CallsTheNext && is_over && self.sleepers.load(Ordering::Relaxed) != 0 {
            self.futex_wake_one();
        }
    }

    fn sleep(&self, me: usize, seen: u32, barrier: Barrier) {
        self.sleepers.fetch_add(1, Ordering::AcqRel);
        self.futex_wait(me, seen, barrier);
        self.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    /// Either notification: all who sleep are of the generation that it is for.
    fn notify(&self, notifier: Notifier) {
        self.sequence.fetch_add(1, Ordering::AcqRel);
        if notifier == Notifier::SeqCst {
            fence(Ordering::SeqCst);
        }
        if self.sleepers.load(Ordering::Acquire) != 0 {
            self.futex_wake_one();
        }
    }

    fn futex_wait(&self, me: usize, seen: u32, barrier: Barrier) {
        let mut asleep = self.bucket.asleep.lock().unwrap();
        if barrier == Barrier::Full {
            fence(Ordering::SeqCst);
        }
        if self.sequence.load(Ordering::Relaxed) != seen {
            return;
        }
        asleep.push(me);
        while asleep.contains(&me) {
            asleep = self.bucket.woken[me].wait(asleep).unwrap();
        }
    }

    fn futex_wake_one(&self) {
        let mut asleep = self.bucket.asleep.lock().unwrap();
        if !asleep.is_empty() {
            let first = asleep.remove(0);
            self.bucket.woken[first].notify_one();
        }
    }
}

/// Everything that can happen in `story`, or all of it in which a thread is interrupted so
/// many times at most. Whether it all ended, or somebody slept for ever.
fn all_ends_well(
    what: &str,
    interruptions: Option<usize>,
    story: impl Fn() + Send + Sync + 'static,
) -> bool {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = interruptions;
    let begin = Instant::now();
    match std::panic::catch_unwind(AssertUnwindSafe(|| model.check(story))) {
        Ok(()) => {
            let seconds = begin.elapsed().as_secs_f64();
            println!("{what}: all ends well: {seconds:.1} s");
            true
        }
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map_or("", String::as_str);
            assert!(message.starts_with("deadlock"), "{message}");
            let seconds = begin.elapsed().as_secs_f64();
            println!("{what}: {message}: {seconds:.1} s");
            false
        }
    }
}

/// One consumer and one producer.
fn one_is_notified(notifier: Notifier, barrier: Barrier) -> bool {
    all_ends_well(&format!("{notifier:?}, {barrier:?}"), None, move || {
        let shared = Shared::new();
        let consumer = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.wait_for_item(barrier))
        };
        shared.put_item(notifier);
        consumer.join().unwrap();
    })
}

/// Two that wait, and one `notify_all`. Without a limit on the interruptions only if the
/// size is large.
fn all_are_called(notifier: Notifier, barrier: Barrier, called: Called) -> bool {
    let what = format!("{notifier:?}, {barrier:?}, {called:?}");
    let interruptions = match Size::chosen() {
        Size::Small => Some(3),
        Size::Large => None,
    };
    all_ends_well(&what, interruptions, move || {
        let shared = Shared::new();
        let sleepers: [_; SLEEPERS] = std::array::from_fn(|me| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.wait_for_call(me, barrier, called))
        });
        shared.notify(notifier);
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    })
}

#[test]
fn the_orderings_of_the_code_are_enough() {
    assert!(one_is_notified(Notifier::SeqCst, Barrier::Full));
}

#[test]
fn weaker_ones_are_found() {
    assert!(!one_is_notified(Notifier::AcquireRelease, Barrier::Full));
    assert!(!one_is_notified(Notifier::SeqCst, Barrier::None));
}

#[test]
fn the_chain_needs_no_more_than_the_first_wake() {
    use Called::{CallsNobody, CallsTheNext};
    assert!(all_are_called(
        Notifier::SeqCst,
        Barrier::Full,
        CallsTheNext
    ));
    for (notifier, barrier, called) in [
        (Notifier::AcquireRelease, Barrier::Full, CallsTheNext),
        (Notifier::SeqCst, Barrier::None, CallsTheNext),
        (Notifier::SeqCst, Barrier::Full, CallsNobody),
    ] {
        assert!(!all_are_called(notifier, barrier, called));
    }
}
