//! The least that a mutex with a condition variable does: a word that one side locks,
//! and a number that a notifier changes. A waiter polls them and never sleeps.
//!
//! The sides lock, wait, notify and unlock in the order of the other monitors. The
//! words lie in two cache lines, as those of a mutex and of a condition variable do. So
//! the difference to "bare word, spinning" is the price of any monitor, and the
//! difference to the other monitors is the price of sleeping and of crash safety.

use std::hint;
use std::sync::atomic::{AtomicU32, Ordering};

use super::monitor::HandOver;
use crate::contestants::Scope;
use crate::failure::Failure;
use crate::series::Survives;
use crate::shared::{Shared, Zeroed};

/// A word in a cache line of its own.
#[repr(C, align(64))]
struct Lock(AtomicU32);

/// A monitor that guards a turn.
#[repr(C)]
struct Words {
    /// 1 while a side has the lock.
    lock: Lock,
    /// A number with the parity of the side that has the turn.
    turn: AtomicU32,
    /// The number of notifications.
    sequence: AtomicU32,
}

// SAFETY: the words are numbers. Zeros are valid, and a number refers to nothing.
unsafe impl Zeroed for Words {}

/// A spin lock with a condition variable, in shared memory.
pub(crate) struct SpinLock(Shared<Words>);

impl SpinLock {
    fn lock(&self) {
        let word = &self.0.lock.0;
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        while word.compare_exchange(0, 1, success, failure).is_err() {
            while word.load(Ordering::Relaxed) != 0 {
                hint::spin_loop();
            }
        }
    }

    fn unlock(&self) {
        self.0.lock.0.store(0, Ordering::Release);
    }

    /// Unlocks, waits for a notification, and locks again.
    fn wait(&self) {
        let seen = self.0.sequence.load(Ordering::Relaxed);
        self.unlock();
        while self.0.sequence.load(Ordering::Relaxed) == seen {
            hint::spin_loop();
        }
        self.lock();
    }

    /// Locks, and waits for the turn of `side`.
    fn lock_at_turn(&self, side: usize) {
        self.lock();
        while self.0.turn.load(Ordering::Relaxed) as usize % 2 != side {
            self.wait();
        }
    }

    /// Passes the turn, notifies and unlocks. The caller has the lock, so no other side
    /// writes the words.
    fn pass_and_unlock(&self) {
        for word in [&self.0.turn, &self.0.sequence] {
            word.store(
                word.load(Ordering::Relaxed).wrapping_add(1),
                Ordering::Relaxed,
            );
        }
        self.unlock();
    }
}

impl HandOver for SpinLock {
    const NAME: &'static str = "spin lock and number";
    const SURVIVES: Survives = Survives::Nothing;
    const SCOPE: Scope = Scope::Processes;

    fn create() -> Result<Self, Failure> {
        Shared::zeroed().map(Self)
    }

    fn wait_for_turn(&self, side: usize) -> Result<(), Failure> {
        self.lock_at_turn(side);
        self.unlock();
        Ok(())
    }

    fn pass_turn(&self, _side: usize) -> Result<(), Failure> {
        self.lock();
        self.pass_and_unlock();
        Ok(())
    }

    fn wait_and_pass(&self, side: usize) -> Result<(), Failure> {
        self.lock_at_turn(side);
        self.pass_and_unlock();
        Ok(())
    }
}
