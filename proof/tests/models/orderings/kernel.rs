//! The kernel's part.
//!
//! | what | what orders it in the kernel (arm64) | here |
//! |---|---|---|
//! | `futex_wait`, `futex_wake` | the lock of the hash bucket, and a full barrier before the word is read | a mutex |
//! | the end of a thread (`exit_robust_list`) | `stlxr` and `dmb ish`, in the thread that ends | an exchange that acquires and releases |
//! | `shmat`, `shmdt`, `shmctl` | the lock of the segment (`ipc_lock_object`) | a mutex |
//!
//! A thread that dies is a function that returns.

use loom::sync::atomic::Ordering;
use loom::sync::{Condvar, Mutex};

use super::word::Word;

pub(super) const WAITERS: u64 = 1 << 31;
pub(super) const OWNER_DIED: u64 = 1 << 30;
pub(super) const TID: u64 = OWNER_DIED - 1;

/// The threads that sleep on one word, or were moved from it to another. A thread has a
/// number below 3. Both words have one hash bucket, as may happen.
#[derive(Default)]
pub(super) struct Sleepers {
    queues: Mutex<Queues>,
    woken: [Condvar; 3],
}

#[derive(Default)]
struct Queues {
    first: Vec<usize>,
    moved: Vec<usize>,
}

impl Sleepers {
    /// Sleeps while the word has this value, until another thread wakes this one.
    pub(super) fn wait(&self, me: usize, word: &Word, value: u64) {
        self.wait_behind(|| {}, me, word, value);
    }

    /// Sleeps, with a barrier between the lock of the bucket and the read of the word.
    pub(super) fn wait_behind(&self, barrier: impl Fn(), me: usize, word: &Word, value: u64) {
        let mut queues = self.queues.lock().unwrap();
        barrier();
        if word.load(Ordering::Relaxed) != value {
            return;
        }
        queues.first.push(me);
        while queues.first.contains(&me) || queues.moved.contains(&me) {
            queues = self.woken[me].wait(queues).unwrap();
        }
    }

    /// Wakes the first sleeper. Returns whether there was one.
    pub(super) fn wake_one(&self) -> bool {
        let mut queues = self.queues.lock().unwrap();
        let first = (!queues.first.is_empty()).then(|| queues.first.remove(0));
        self.end_sleep(first)
    }

    /// Wakes all sleepers.
    pub(super) fn wake_all(&self) {
        let mut queues = self.queues.lock().unwrap();
        for sleeper in queues.first.drain(..) {
            self.end_sleep(Some(sleeper));
        }
    }

    /// Moves all sleepers to the other word.
    pub(super) fn move_all(&self) {
        let mut queues = self.queues.lock().unwrap();
        let mut all = std::mem::take(&mut queues.first);
        queues.moved.append(&mut all);
    }

    /// Wakes the first sleeper on the other word.
    pub(super) fn wake_moved(&self) {
        let mut queues = self.queues.lock().unwrap();
        let first = (!queues.moved.is_empty()).then(|| queues.moved.remove(0));
        self.end_sleep(first);
    }

    fn end_sleep(&self, sleeper: Option<usize>) -> bool {
        sleeper.is_some_and(|sleeper| {
            self.woken[sleeper].notify_one();
            true
        })
    }
}

/// Ends a thread that holds the lock with this word. Returns whether a waiter is to be
/// woken. `ordering` is that of the kernel's exchange.
pub(super) fn end_holder(word: &Word, ordering: Ordering) -> bool {
    loop {
        let held = word.load(Ordering::Relaxed);
        let died = held & WAITERS | OWNER_DIED;
        let exchanged = word.compare_exchange(held, died, ordering, Ordering::Relaxed);
        if exchanged.is_ok() {
            return held & WAITERS != 0;
        }
    }
}
