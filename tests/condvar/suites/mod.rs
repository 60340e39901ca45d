//! What the suite's files share: both condition variables behind one trait, and
//! some state to wait on.
//!
//! The cases are those that the published suites of glibc, the Linux futexes, the
//! Linux Test Project, Rust's std, parking_lot, Boost.Interprocess and Fast-DDS ask
//! of condition variables. The table in docs/proof.md says which case is where.

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

/// What both condition variables can do.
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

/// The trait's methods are the type's own.
macro_rules! is_a_condvar {
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

is_a_condvar!(ShmCondvar);
is_a_condvar!(PthreadCondvar);

/// What is waited for.
#[derive(ShmSafe, Default)]
#[repr(C)]
pub struct State {
    /// How many have ever gone to wait. They say so under the lock, so whoever
    /// reads it under the lock knows that they have given the lock back to wait.
    pub waiting: u64,
    pub items: u64,
}

/// A mutex, and the condition variables that go with it.
#[derive(ShmSafe)]
#[repr(C)]
pub struct Shared<C> {
    pub state: ShmMutex<State>,
    pub changed: C,
    /// For what needs two.
    pub answered: C,
    /// How many waits have ended.
    pub returned: AtomicU64,
}

pub type Guard<'a> = ShmMutexGuard<'a, State>;

impl<C: Condvar> Shared<C> {
    pub fn unplaced() -> Self {
        Self::around(ShmMutex::new(State::default()))
    }

    /// The holder inherits the priority of those who wait for the lock.
    pub fn unplaced_with_priority_inheritance() -> Self {
        Self::around(ShmMutex::with_priority_inheritance(State::default()))
    }

    fn around(state: ShmMutex<State>) -> Self {
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

    /// Takes the lock as somebody who goes to wait now.
    pub fn lock_to_wait(&self) -> Guard<'_> {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        state
    }

    /// Takes the lock when `count` have gone to wait: all of them are in their wait.
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

    /// Waits for an item, and takes it.
    pub fn take(&self) {
        let state = self.lock_to_wait();
        let mut state = self.changed.wait_while(state, is_empty).unwrap();
        state.items -= 1;
        self.returned.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts a wait that has ended with the lock held by the caller, and sees that
    /// it is.
    pub fn came_back_with(&self, state: Guard<'_>) {
        assert!(self.is_held_by_me(), "the wait came back without the lock");
        self.returned.fetch_add(1, Ordering::SeqCst);
        drop(state);
    }

    pub fn is_held_by_me(&self) -> bool {
        is_held_by_me(&self.state)
    }

    pub fn returned(&self) -> u64 {
        self.returned.load(Ordering::SeqCst)
    }
}

/// The mutex checks for errors: only its holder is told of a deadlock.
pub fn is_held_by_me<T: ShmSafe>(mutex: &ShmMutex<T>) -> bool {
    matches!(mutex.lock(), Err(LockError::Deadlock))
}

/// A condition to wait on.
pub fn is_empty(state: &mut State) -> bool {
    state.items == 0
}

/// Where a notifier notifies.
#[derive(Clone, Copy, Debug)]
pub enum Where {
    UnderTheLock,
    OutsideOfIt,
}

pub const ANYWHERE: [Where; 2] = [Where::UnderTheLock, Where::OutsideOfIt];
