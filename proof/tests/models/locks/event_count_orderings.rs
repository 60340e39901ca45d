//! The system call that a notifier of an event count may skip: the store-buffer
//! pattern, on the memory model.
//!
//! | thread | first | then |
//! |---|---|---|
//! | waiter | adds its announcement to `roll` | the question reads the token |
//! | notifier | its caller makes a token | reads `roll` |
//!
//! If both read the old values, the waiter sleeps and no process wakes it. All four
//! accesses are `SeqCst` in the code. `loom` treats such accesses as acquire and
//! release, but it knows the fence. Therefore each thread here has a fence between its
//! accesses. For this pattern the two are equivalent: see `store_buffer`.
//!
//! The scenario includes the rest of the event count: a notifier that wakes no thread
//! settles the announcements, and so does a waiter that is alone.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use super::pair::Pair;
use super::store_buffer::terminates;

/// One announcement. The lower half counts those that are settled.
const ONE: u32 = 1 << 16;

fn open(roll: u32) -> u32 {
    (roll >> 16) - (roll & (ONE - 1))
}

fn with_all_settled(roll: u32) -> u32 {
    roll >> 16 << 16 | roll >> 16
}

struct Shared {
    token: AtomicU32,
    sequence: AtomicU32,
    roll: AtomicU32,
    /// The kernel's part: whether the waiter is queued.
    queued: Mutex<bool>,
    woken: Condvar,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            token: AtomicU32::new(0),
            sequence: AtomicU32::new(0),
            roll: AtomicU32::new(0),
            queued: Mutex::new(false),
            woken: Condvar::new(),
        })
    }

    /// `EventCount::wait` without the spin loop.
    fn take_token(&self, waiter: Pair) {
        loop {
            let seen = self.sequence.load(Ordering::Acquire);
            let announced = self.roll.fetch_add(ONE, Ordering::AcqRel) + ONE;
            waiter.order();
            let is_there = self.token.load(Ordering::Acquire) != 0;
            if is_there && self.token.swap(0, Ordering::AcqRel) != 0 {
                self.settle_if_alone(announced);
                return;
            }
            self.futex_wait(seen);
            self.settle_if_alone(announced);
        }
    }

    /// `ShmEvent::set` of an event that resets itself.
    fn make_token(&self, notifier: Pair) {
        self.token.swap(1, Ordering::AcqRel);
        notifier.order();
        let roll = self.roll.load(Ordering::Acquire);
        if open(roll) == 0 {
            return;
        }
        self.sequence.fetch_add(1, Ordering::AcqRel);
        if !self.futex_wake() {
            self.settle(roll);
        }
    }

    fn settle_if_alone(&self, announced: u32) {
        if open(announced) == 1 {
            self.settle(announced);
        }
    }

    fn settle(&self, read: u32) {
        let settled = with_all_settled(read);
        let (success, failure) = (Ordering::AcqRel, Ordering::Relaxed);
        let _ = self.roll.compare_exchange(read, settled, success, failure);
    }

    fn futex_wait(&self, seen: u32) {
        let mut queued = self.queued.lock().unwrap();
        if self.sequence.load(Ordering::Relaxed) != seen {
            return;
        }
        *queued = true;
        while *queued {
            queued = self.woken.wait(queued).unwrap();
        }
    }

    /// Returns whether the waiter was queued.
    fn futex_wake(&self) -> bool {
        let mut queued = self.queued.lock().unwrap();
        let was_queued = std::mem::take(&mut *queued);
        if was_queued {
            self.woken.notify_one();
        }
        was_queued
    }
}

/// Runs a waiter that takes one token, and a notifier that makes one.
fn one_token_terminates(notifier: Pair, waiter: Pair) -> bool {
    let what = format!("event count: notifier {notifier}, waiter {waiter}");
    terminates(&what, None, move || {
        let shared = Shared::new();
        let taker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.take_token(waiter))
        };
        shared.make_token(notifier);
        taker.join().unwrap();
    })
}

/// Runs a waiter that takes a token from each of two notifiers, one after the other.
/// The second notifier finds what the first has settled.
fn two_tokens_terminate() -> bool {
    let what = "event count: two tokens, notifier and waiter sequentially consistent";
    terminates(what, Some(3), || {
        let shared = Shared::new();
        let taker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.take_token(Pair::SeqCst);
                shared.make_token(Pair::SeqCst);
            })
        };
        shared.make_token(Pair::SeqCst);
        taker.join().unwrap();
        shared.take_token(Pair::SeqCst);
    })
}

#[test]
fn code_orderings_suffice() {
    assert!(one_token_terminates(Pair::SeqCst, Pair::SeqCst));
    assert!(two_tokens_terminate());
}

#[test]
fn weaker_notifier_deadlocks() {
    assert!(!one_token_terminates(Pair::AcquireRelease, Pair::SeqCst));
}

#[test]
fn weaker_waiter_deadlocks() {
    assert!(!one_token_terminates(Pair::SeqCst, Pair::AcquireRelease));
}
