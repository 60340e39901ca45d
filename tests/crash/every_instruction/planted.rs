//! Locks and condition variables with a planted mistake, in which the harness must find
//! faults.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shm_sync::{
    LockError, LockResult, Poisoned, PthreadCondvar, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe,
};

use super::subject::{PairWords, Subject, Word, new_pair, word_of_mutex};
use crate::support::Pair;

type Guard<'a> = ShmMutexGuard<'a, Pair>;

/// The methods that work as in the library, for mutants with a `ShmMutex`.
macro_rules! with_our_mutex {
    () => {
        type Guard<'a> = Guard<'a>;

        fn lock(&self) -> LockResult<Guard<'_>> {
            self.report(self.pair.lock())
        }

        fn try_lock(&self) -> LockResult<Guard<'_>> {
            self.report(self.pair.try_lock())
        }

        fn try_lock_for(&self, timeout: Duration) -> LockResult<Guard<'_>> {
            self.report(self.pair.try_lock_for(timeout))
        }

        fn wait<'a>(&'a self, guard: Guard<'a>) -> LockResult<Guard<'a>> {
            self.report(self.changed.wait(guard))
        }

        fn wait_timeout<'a>(
            &'a self,
            guard: Guard<'a>,
            timeout: Duration,
        ) -> LockResult<Guard<'a>> {
            let result = self.changed.wait_timeout(guard, timeout);
            self.report(result.map(|(guard, _)| guard))
        }

        fn notify_one(&self) {
            self.changed.notify_one();
        }

        fn notify_all(&self) {
            self.changed.notify_all();
        }

        fn name_of(offset: usize) -> Option<Word> {
            (offset < size_of::<ShmMutex<Pair>>())
                .then(|| word_of_mutex(offset))
                .flatten()
        }
    };
}

/// glibc's condition variable.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct WithPthreadCondvar {
    pair: ShmMutex<Pair>,
    changed: PthreadCondvar,
}

impl WithPthreadCondvar {
    fn report<'a>(&self, result: LockResult<Guard<'a>>) -> LockResult<Guard<'a>> {
        result
    }
}

impl Subject for WithPthreadCondvar {
    const NAME: &'static str = "`PthreadCondvar`";

    with_our_mutex!();

    fn new() -> Self {
        Self {
            pair: new_pair(),
            changed: PthreadCondvar::new(),
        }
    }

    fn recover<'a>(
        &'a self,
        poisoned: Poisoned<Guard<'a>>,
        repair: impl FnOnce(&mut Pair),
    ) -> Guard<'a> {
        poisoned.recover(repair)
    }
}

/// Hides the owner death from the locker.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct HidesOwnerDeath {
    pair: ShmMutex<Pair>,
    changed: ShmCondvar,
}

impl HidesOwnerDeath {
    fn report<'a>(&self, result: LockResult<Guard<'a>>) -> LockResult<Guard<'a>> {
        match result {
            Err(LockError::Poisoned(poisoned)) => {
                self.pair.clear_poison();
                Ok(poisoned.into_inner())
            }
            other => other,
        }
    }
}

impl Subject for HidesOwnerDeath {
    const NAME: &'static str = "a lock that hides owner deaths";

    with_our_mutex!();

    fn new() -> Self {
        Self {
            pair: new_pair(),
            changed: ShmCondvar::new(),
        }
    }

    fn recover<'a>(
        &'a self,
        poisoned: Poisoned<Guard<'a>>,
        repair: impl FnOnce(&mut Pair),
    ) -> Guard<'a> {
        poisoned.recover(repair)
    }
}

/// Clears the poison before the repair.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct ClearsPoisonFirst {
    pair: ShmMutex<Pair>,
    changed: ShmCondvar,
}

impl ClearsPoisonFirst {
    fn report<'a>(&self, result: LockResult<Guard<'a>>) -> LockResult<Guard<'a>> {
        result
    }
}

impl Subject for ClearsPoisonFirst {
    const NAME: &'static str = "a lock that clears the poison before the repair";

    with_our_mutex!();

    fn new() -> Self {
        Self {
            pair: new_pair(),
            changed: ShmCondvar::new(),
        }
    }

    fn recover<'a>(
        &'a self,
        poisoned: Poisoned<Guard<'a>>,
        repair: impl FnOnce(&mut Pair),
    ) -> Guard<'a> {
        self.pair.clear_poison();
        let mut guard = poisoned.into_inner();
        repair(&mut guard);
        guard
    }
}

/// A mutex and a condition variable that work as long as no process dies.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct NotRobust {
    /// One of `FREE`, `HELD` and `CONTENDED`.
    lock: AtomicU32,
    sequence: AtomicU32,
    pair: PairWords,
}

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and a waiter may sleep.
const CONTENDED: u32 = 2;

pub(crate) struct NotRobustGuard<'a>(&'a NotRobust);

impl Deref for NotRobustGuard<'_> {
    type Target = Pair;

    fn deref(&self) -> &Pair {
        // SAFETY: the guard holds the lock, and the pointer leads to two `u64`.
        unsafe { &*self.0.pair.as_ptr() }
    }
}

impl DerefMut for NotRobustGuard<'_> {
    fn deref_mut(&mut self) -> &mut Pair {
        // SAFETY: the guard holds the lock and is borrowed exclusively. The pointer
        // leads to two `u64`.
        unsafe { &mut *self.0.pair.as_ptr() }
    }
}

impl Drop for NotRobustGuard<'_> {
    fn drop(&mut self) {
        if self.0.lock.swap(FREE, Ordering::Release) == CONTENDED {
            futex(&self.0.lock, libc::FUTEX_WAKE, 1, Duration::ZERO);
        }
    }
}

/// Waits while the word is `value`, or wakes `value` waiters.
fn futex(word: &AtomicU32, operation: i32, value: u32, timeout: Duration) {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: the word and the timeout outlive the call. `FUTEX_WAKE` does not read the
    // timeout.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            operation,
            value,
            &raw const timeout,
        )
    };
}

impl Subject for NotRobust {
    const NAME: &'static str = "a lock of atomics and a futex, not robust";

    type Guard<'a> = NotRobustGuard<'a>;

    fn new() -> Self {
        Self {
            lock: AtomicU32::new(FREE),
            sequence: AtomicU32::new(0),
            pair: PairWords::new(),
        }
    }

    fn lock(&self) -> LockResult<NotRobustGuard<'_>> {
        self.try_lock_for(Duration::from_secs(3600))
    }

    fn try_lock(&self) -> LockResult<NotRobustGuard<'_>> {
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        match self.lock.compare_exchange(FREE, HELD, acquire, relaxed) {
            Ok(_) => Ok(NotRobustGuard(self)),
            Err(_) => Err(LockError::WouldBlock),
        }
    }

    fn try_lock_for(&self, timeout: Duration) -> LockResult<NotRobustGuard<'_>> {
        if let Ok(guard) = self.try_lock() {
            return Ok(guard);
        }
        let until = Instant::now() + timeout;
        while self.lock.swap(CONTENDED, Ordering::Acquire) != FREE {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LockError::TimedOut);
            }
            futex(&self.lock, libc::FUTEX_WAIT, CONTENDED, left);
        }
        Ok(NotRobustGuard(self))
    }

    fn recover<'a>(
        &'a self,
        poisoned: Poisoned<NotRobustGuard<'a>>,
        repair: impl FnOnce(&mut Pair),
    ) -> NotRobustGuard<'a> {
        let mut guard = poisoned.into_inner();
        repair(&mut guard);
        guard
    }

    fn wait<'a>(&'a self, guard: NotRobustGuard<'a>) -> LockResult<NotRobustGuard<'a>> {
        self.wait_timeout(guard, Duration::from_secs(3600))
    }

    fn wait_timeout<'a>(
        &'a self,
        guard: NotRobustGuard<'a>,
        timeout: Duration,
    ) -> LockResult<NotRobustGuard<'a>> {
        let seen = self.sequence.load(Ordering::Relaxed);
        drop(guard);
        futex(&self.sequence, libc::FUTEX_WAIT, seen, timeout);
        self.lock()
    }

    fn notify_one(&self) {
        self.sequence.fetch_add(1, Ordering::SeqCst);
        futex(&self.sequence, libc::FUTEX_WAKE, 1, Duration::ZERO);
    }

    fn notify_all(&self) {
        self.sequence.fetch_add(1, Ordering::SeqCst);
        let all = i32::MAX.cast_unsigned();
        futex(&self.sequence, libc::FUTEX_WAKE, all, Duration::ZERO);
    }
}
