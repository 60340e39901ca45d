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
//! The kernel's hash bucket is a lock with a queue.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::sync::{Condvar, Mutex};
use loom::thread;

/// How the notifier's two accesses are ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notifier {
    /// As in `ShmCondvar::notify`.
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

/// The kernel's part.
#[derive(Default)]
struct Bucket {
    /// Who sleeps, and has not been woken.
    asleep: Mutex<u32>,
    woken: Condvar,
}

struct Shared {
    has_item: Mutex<bool>,
    sequence: AtomicU32,
    sleepers: AtomicU32,
    bucket: Bucket,
}

impl Shared {
    /// A consumer: `ShmCondvar::wait_raw` without the spin.
    fn wait_for_item(&self, barrier: Barrier) {
        loop {
            let has_item = self.has_item.lock().unwrap();
            if *has_item {
                return;
            }
            let seen = self.sequence.load(Ordering::Relaxed);
            drop(has_item);
            self.sleepers.fetch_add(1, Ordering::AcqRel);
            self.futex_wait(seen, barrier);
            self.sleepers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn futex_wait(&self, seen: u32, barrier: Barrier) {
        let mut asleep = self.bucket.asleep.lock().unwrap();
        if barrier == Barrier::Full {
            fence(Ordering::SeqCst);
        }
        if self.sequence.load(Ordering::Relaxed) != seen {
            return;
        }
        *asleep += 1;
        while *asleep > 0 {
            asleep = self.bucket.woken.wait(asleep).unwrap();
        }
    }

    /// A producer: `ShmCondvar::notify_all`, under the lock.
    fn put_item(&self, notifier: Notifier) {
        let mut has_item = self.has_item.lock().unwrap();
        *has_item = true;
        self.sequence.fetch_add(1, Ordering::AcqRel);
        if notifier == Notifier::SeqCst {
            fence(Ordering::SeqCst);
        }
        if self.sleepers.load(Ordering::Acquire) != 0 {
            *self.bucket.asleep.lock().unwrap() = 0;
            self.bucket.woken.notify_all();
        }
        drop(has_item);
    }
}

/// Everything that can happen to one consumer and one producer. Whether it all ended, or
/// somebody slept for ever.
fn all_ends_well(notifier: Notifier, barrier: Barrier) -> bool {
    let everything = move || {
        loom::model(move || {
            let shared = Arc::new(Shared {
                has_item: Mutex::new(false),
                sequence: AtomicU32::new(0),
                sleepers: AtomicU32::new(0),
                bucket: Bucket::default(),
            });
            let consumer = {
                let shared = Arc::clone(&shared);
                thread::spawn(move || shared.wait_for_item(barrier))
            };
            shared.put_item(notifier);
            consumer.join().unwrap();
        });
    };
    match std::panic::catch_unwind(everything) {
        Ok(()) => true,
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map_or("", String::as_str);
            assert!(message.starts_with("deadlock"), "{message}");
            println!("{notifier:?}, {barrier:?}: {message}");
            false
        }
    }
}

#[test]
fn the_orderings_of_the_code_are_enough() {
    assert!(all_ends_well(Notifier::SeqCst, Barrier::Full));
}

#[test]
fn weaker_ones_are_found() {
    assert!(!all_ends_well(Notifier::AcquireRelease, Barrier::Full));
    assert!(!all_ends_well(Notifier::SeqCst, Barrier::None));
}
