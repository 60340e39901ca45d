//! What the players change under locks, and how it is told that a change is
//! missing, half-done, or done twice.

use std::sync::atomic::{Ordering, compiler_fence};
use std::time::Duration;

use shm_sync::{LockResult, PthreadCondvar, ShmCondvar, ShmMutexGuard, ShmSafe};

use crate::arena::{MAX_SEATS, Over, Place};
use crate::watched::Sound;

/// A step of a change. What is before it in the program is stored before it.
pub(crate) fn step() {
    compiler_fence(Ordering::SeqCst);
}

/// Counters. Sound if `left == right`.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Ledger {
    pub(crate) left: u64,
    /// How many of the changes each seat has made: nobody else's business.
    pub(crate) by_seat: [u64; MAX_SEATS],
    pub(crate) right: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            left: 0,
            by_seat: [0; MAX_SEATS],
            right: 0,
        }
    }
}

impl Sound for Ledger {
    const PLACE: Place = Place::Ledger;

    fn fault(&self) -> Option<String> {
        let Self { left, right, .. } = self;
        (left != right).then(|| format!("left {left}, right {right}"))
    }

    fn repair(&mut self) {
        self.right = self.left;
    }
}

/// A bounded queue of numbers. Sound if `produced == consumed + len`, and what is
/// queued is what was put in.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub(crate) struct Queue {
    produced: u64,
    consumed: u64,
    len: u64,
    items: [u64; Self::CAPACITY as usize],
}

impl Queue {
    /// Few, so that both sides fall asleep often.
    const CAPACITY: u64 = 3;

    /// What the item of that number looks like.
    fn item(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len == Self::CAPACITY
    }

    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    pub(crate) fn begin_to_put(&mut self) {
        self.items[(self.produced % Self::CAPACITY) as usize] = Self::item(self.produced);
        step();
        self.len += 1;
        step();
    }

    pub(crate) fn end_to_put(&mut self) {
        step();
        self.produced += 1;
    }

    pub(crate) fn begin_to_take(&mut self) {
        self.consumed += 1;
        step();
    }

    pub(crate) fn end_to_take(&mut self) {
        step();
        self.len -= 1;
    }
}

impl Sound for Queue {
    const PLACE: Place = Place::Queue;

    fn fault(&self) -> Option<String> {
        let Self {
            produced,
            consumed,
            len,
            items,
        } = self;
        if *produced != consumed + len || *len > Self::CAPACITY {
            return Some(format!(
                "{produced} produced, {consumed} consumed, {len} queued"
            ));
        }
        let is_wrong =
            |number: &u64| items[(number % Self::CAPACITY) as usize] != Self::item(*number);
        let wrong = (*consumed..*produced).find(is_wrong);
        wrong.map(|number| format!("item {number} is not what was put in"))
    }

    fn repair(&mut self) {
        // A half-put item is dropped: it was never counted as produced. A
        // half-taken one is gone.
        self.len = self.produced - self.consumed;
    }
}

/// A condition variable of either kind.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Condvar {
    pub(crate) ours: ShmCondvar,
    libcs: PthreadCondvar,
}

impl Condvar {
    pub(crate) fn wait<'a, T: ShmSafe>(
        &self,
        over: Over,
        guard: ShmMutexGuard<'a, T>,
    ) -> LockResult<ShmMutexGuard<'a, T>> {
        match over {
            Over::ShmCondvar => self.ours.wait(guard),
            Over::PthreadCondvar => self.libcs.wait(guard),
        }
    }

    pub(crate) fn wait_timeout<'a, T: ShmSafe>(
        &self,
        over: Over,
        guard: ShmMutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<ShmMutexGuard<'a, T>> {
        let result = match over {
            Over::ShmCondvar => self.ours.wait_timeout(guard, timeout),
            Over::PthreadCondvar => self.libcs.wait_timeout(guard, timeout),
        };
        result.map(|(guard, _)| guard)
    }

    pub(crate) fn notify_one(&self, over: Over) {
        match over {
            Over::ShmCondvar => self.ours.notify_one(),
            Over::PthreadCondvar => self.libcs.notify_one(),
        }
    }

    pub(crate) fn notify_all(&self, over: Over) {
        match over {
            Over::ShmCondvar => self.ours.notify_all(),
            Over::PthreadCondvar => self.libcs.notify_all(),
        }
    }
}
