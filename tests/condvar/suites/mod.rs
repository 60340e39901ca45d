//! The cases that the published test suites have for condition variables, over both
//! [`ShmCondvar`] and [`PthreadCondvar`].
//!
//! The cases come from glibc, the Linux selftests, the Linux Test Project, Rust's std,
//! parking_lot, Boost.Interprocess and Fast-DDS. The code is ours. The table in
//! docs/results/suites.md says where each case is.
//!
//! This file has what the topics share: a trait over both condition variables, and a
//! state to wait on.

#![allow(
    unreachable_pub,
    reason = "part of each test program, not of a library"
)]

mod deaths;
mod queues;
mod timeouts;
mod wakeups;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shm_sync::{
    LockError, LockResult, PthreadCondvar, Segment, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe,
    WaitTimeoutLockResult,
};

/// The common methods of both condition variables.
pub trait Condvar: ShmSafe + Sync {
    fn unplaced() -> Self;

    fn wait<'a, T: ShmSafe>(&self, guard: ShmMutexGuard<'a, T>)
    -> LockResult<ShmMutexGuard<'a, T>>;

    fn wait_while<'a, T: ShmSafe>(
        &self,
        guard: ShmMutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<ShmMutexGuard<'a, T>>;

    fn wait_timeout<'a, T: ShmSafe>(
        &self,
        guard: ShmMutexGuard<'a, T>,
        timeout: Duration,
    ) -> WaitTimeoutLockResult<'a, T>;

    fn wait_timeout_while<'a, T: ShmSafe>(
        &self,
        guard: ShmMutexGuard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> WaitTimeoutLockResult<'a, T>;

    fn notify_one(&self);

    fn notify_all(&self);
}

/// Implements [`Condvar`] by the type's own methods of the same names.
macro_rules! impl_condvar {
    ($name:ident) => {
        impl Condvar for $name {
            fn unplaced() -> Self {
                $name::new()
            }

            fn wait<'a, T: ShmSafe>(
                &self,
                guard: ShmMutexGuard<'a, T>,
            ) -> LockResult<ShmMutexGuard<'a, T>> {
                $name::wait(self, guard)
            }

            fn wait_while<'a, T: ShmSafe>(
                &self,
                guard: ShmMutexGuard<'a, T>,
                condition: impl FnMut(&mut T) -> bool,
            ) -> LockResult<ShmMutexGuard<'a, T>> {
                $name::wait_while(self, guard, condition)
            }

            fn wait_timeout<'a, T: ShmSafe>(
                &self,
                guard: ShmMutexGuard<'a, T>,
                timeout: Duration,
            ) -> WaitTimeoutLockResult<'a, T> {
                $name::wait_timeout(self, guard, timeout)
            }

            fn wait_timeout_while<'a, T: ShmSafe>(
                &self,
                guard: ShmMutexGuard<'a, T>,
                timeout: Duration,
                condition: impl FnMut(&mut T) -> bool,
            ) -> WaitTimeoutLockResult<'a, T> {
                $name::wait_timeout_while(self, guard, timeout, condition)
            }

            fn notify_one(&self) {
                $name::notify_one(self);
            }

            fn notify_all(&self) {
                $name::notify_all(self);
            }
        }
    };
}

impl_condvar!(ShmCondvar);
impl_condvar!(PthreadCondvar);

/// The state that the mutex guards.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub struct State {
    /// The number of waits begun so far. A waiter counts itself under the lock, so a
    /// thread that locks and reads this number knows that these waiters have unlocked
    /// in their waits.
    pub waiting: u64,
    pub items: u64,
}

/// A mutex, and the condition variables that go with it.
#[derive(ShmSafe)]
#[repr(C)]
pub struct Shared<C> {
    pub state: ShmMutex<State>,
    pub changed: C,
    /// A second condition variable, for tests that need two.
    pub answered: C,
    /// The number of waits that have ended.
    pub returned: AtomicU64,
}

pub type Guard<'a> = ShmMutexGuard<'a, State>;

impl<C: Condvar> Shared<C> {
    pub fn unplaced() -> Self {
        Self::with_mutex(ShmMutex::new(State::default()))
    }

    /// Makes the mutex with priority inheritance: the holder runs at the priority of
    /// the waiters.
    pub fn unplaced_with_priority_inheritance() -> Self {
        Self::with_mutex(ShmMutex::with_priority_inheritance(State::default()))
    }

    fn with_mutex(state: ShmMutex<State>) -> Self {
        Self {
            state,
            changed: C::unplaced(),
            answered: C::unplaced(),
            returned: AtomicU64::new(0),
        }
    }

    pub fn placed() -> Segment<Self> {
        Segment::anonymous(Self::unplaced()).unwrap()
    }

    /// Locks, and counts the caller as a waiter.
    pub fn lock_to_wait(&self) -> Guard<'_> {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        state
    }

    /// Locks as soon as `count` waits have begun. All these waiters are in their waits
    /// then.
    pub fn lock_when_waiting(&self, count: u64) -> Guard<'_> {
        loop {
            let state = self.state.lock().unwrap();
            if state.waiting == count {
                return state;
            }
            drop(state);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Waits for an item, and removes it.
    pub fn take(&self) {
        let state = self.lock_to_wait();
        let mut state = self.changed.wait_while(state, is_empty).unwrap();
        state.items -= 1;
        self.returned.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a wait that has ended, and checks that the caller holds the lock.
    pub fn count_return(&self, state: Guard<'_>) {
        assert!(
            self.is_held_by_this_thread(),
            "the wait returned without the lock"
        );
        self.returned.fetch_add(1, Ordering::SeqCst);
        drop(state);
    }

    pub fn is_held_by_this_thread(&self) -> bool {
        is_held_by_this_thread(&self.state)
    }

    pub fn returned(&self) -> u64 {
        self.returned.load(Ordering::SeqCst)
    }
}

/// Returns whether this thread holds the mutex: only the holder gets
/// [`LockError::Deadlock`].
pub fn is_held_by_this_thread<T: ShmSafe>(mutex: &ShmMutex<T>) -> bool {
    matches!(mutex.lock(), Err(LockError::Deadlock))
}

/// The condition of most waits.
pub fn is_empty(state: &mut State) -> bool {
    state.items == 0
}

/// Whether the notifier holds the lock when it notifies.
#[derive(Clone, Copy, Debug)]
pub enum NotifyWhen {
    Locked,
    Unlocked,
}

pub const LOCKED_OR_NOT: [NotifyWhen; 2] = [NotifyWhen::Locked, NotifyWhen::Unlocked];
