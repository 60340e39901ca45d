//! Wake-ups that a holder defers until its next unlock.
//!
//! A waiter of a condition variable must lock the mutex before it can return. If the
//! notifier woke the waiter while the notifier holds that mutex, the waiter would sleep
//! a second time.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::AtomicU32;

use crate::os::futex::{self, Wake};

/// The wake-ups that a thread makes at its next unlock.
///
/// If the thread dies before that unlock, the waiters wake by their recheck.
pub(super) struct DeferredWakes {
    /// A futex word on which the thread wakes waiters after the unlock, or null. It may
    /// be unmapped by then.
    word: Cell<*const AtomicU32>,
    /// How many waiters of that word it wakes.
    count: Cell<u32>,
    /// How many waiters of the lock word it wakes, if there are any.
    lockers: Cell<u32>,
}

impl DeferredWakes {
    pub(super) const fn none() -> Self {
        Self {
            word: Cell::new(ptr::null()),
            count: Cell::new(0),
            lockers: Cell::new(1),
        }
    }

    /// Forgets all wake-ups.
    pub(super) fn clear(&self) {
        self.word.set(ptr::null());
        self.lockers.set(1);
    }

    /// Returns whether there is a word to wake.
    #[inline]
    pub(super) fn has_word(&self) -> bool {
        !self.word.get().is_null()
    }

    /// Adds one waiter of `word`. Waiters of another word are woken now: there is only
    /// room for one.
    pub(super) fn add_one(&self, word: &AtomicU32) {
        let count = if self.word.get() == ptr::from_ref(word) {
            self.count.get()
        } else {
            self.wake();
            0
        };
        self.count.set(count.saturating_add(1));
        self.word.set(word);
    }

    /// Lets the unlock wake `count` waiters of the lock word, instead of one.
    pub(super) fn set_lockers(&self, count: u32) {
        self.lockers.set(count);
    }

    /// Returns how many waiters of the lock word the unlock wakes, and forgets it.
    pub(super) fn take_lockers(&self) -> Wake {
        Wake::AtMost(self.lockers.replace(1))
    }

    /// Wakes the waiters of the word, if there is one, and forgets them.
    pub(super) fn wake(&self) {
        let word = self.word.replace(ptr::null());
        if !word.is_null() {
            futex::wake_at(word, Wake::AtMost(self.count.get()));
        }
    }
}
