//! Locks and condition variables that don't survive, to see the harness fail.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use shm_sync::{
    LockError, LockResult, Poisoned, PthreadCondvar, ShmCondvar, ShmMutex, ShmMutexGuard, ShmSafe,
};

use super::subject::{PairWords, Subject, Word, new_pair, word_of_mutex};
use crate::support::Pair;

type Guard<'a> = ShmMutexGuard<'a, Pair>;

/// What each mutant that has a `ShmMutex` does as the library does.
macro_rules! with_our_mutex {
    () => {
        type Guard<'a> = Guard<'a>;

        fn lock(&self) -> LockResult<Guard<'_>> {
            self.told(self.pair.lock())
        }

        fn try_lock(&self) -> LockResult<Guard<'_>> {
            self.told(self.pair.try_lock())
        }

        fn try_lock_for(&self, timeout: Duration) -> LockResult<Guard<'_>> {
            self.told(self.pair.try_lock_for(timeout))
        }

        fn wait<'a>(&'a self, guard: Guard<'a>) -> LockResult<Guard<'a>> {
            self.told(self.changed.wait(guard))
        }

        fn wait_timeout<'a>(
            &'a self,
            guard: Guard<'a>,
            timeout: Duration,
        ) -> LockResult<Guard<'a>> {
            let result = self.changed.wait_timeout(guard, timeout);
            self.told(result.map(|(guard, _)| guard))
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
pub(crate) struct OverPthread {
    pair: ShmMutex<Pair>,
    changed: PthreadCondvar,
}

impl OverPthread {
    fn told<'a>(&self, result: LockResult<Guard<'a>>) -> LockResult<Guard<'a>> {
        result
    }
}

impl Subject for OverPthread {
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

/// Does not pass on that the holder has died.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Forgiving {
    pair: ShmMutex<Pair>,
    changed: ShmCondvar,
}

impl Forgiving {
    fn told<'a>(&self, result: LockResult<Guard<'a>>) -> LockResult<Guard<'a>> {
        match result {
            Err(LockError::Poisoned(poisoned)) => {
                self.pair.clear_poison();
                Ok(poisoned.into_inner())
            }
            other => other,
        }
    }
}

impl Subject for Forgiving {
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

/// Declares the data sound, and repairs them then.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Hasty {
    pair: ShmMutex<Pair>,
    changed: ShmCondvar,
}

impl Hasty {
    fn told<'a>(&self, result: LockResult<Guard<'a>>) -> LockResult<Guard<'a>> {
        result
    }
}

impl Subject for Hasty {
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

/// A good mutex and condition variable for processes that don't die.
#[derive(ShmSafe)]
#[repr(C)]
pub(crate) struct Ownerless {
    /// See the constants.
    lock: AtomicU32,
    sequence: AtomicU32,
    pair: PairWords,
}

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Somebody may sleep on it.
const CONTENDED: u32 = 2;

pub(crate) struct OwnerlessGuard<'a>(&'a Ownerless);

impl Deref for OwnerlessGuard<'_> {
    type Target = Pair;

    fn deref(&self) -> &Pair {
        // SAFETY: the lock is held; two u64 lie there.
        unsafe { &*self.0.pair.as_ptr() }
    }
}

impl DerefMut for OwnerlessGuard<'_> {
    fn deref_mut(&mut self) -> &mut Pair {
        // SAFETY: the lock is held, and the guard is borrowed exclusively; two u64 lie
        // there.
        unsafe { &mut *self.0.pair.as_ptr() }
    }
}

impl Drop for OwnerlessGuard<'_> {
    fn drop(&mut self) {
        if self.0.lock.swap(FREE, Ordering::Release) == CONTENDED {
            futex(&self.0.lock, libc::FUTEX_WAKE, 1, Duration::ZERO);
        }
    }
}

/// Waits while the word is `value`, or wakes so many.
fn futex(word: &AtomicU32, operation: i32, value: u32, timeout: Duration) {
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs().cast_signed(),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: word and timeout outlive the call; to wake, it reads neither.
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

impl Subject for Ownerless {
    type Guard<'a> = OwnerlessGuard<'a>;

    fn new() -> Self {
        Self {
            lock: AtomicU32::new(FREE),
            sequence: AtomicU32::new(0),
            pair: PairWords::new(),
        }
    }

    fn lock(&self) -> LockResult<OwnerlessGuard<'_>> {
        self.try_lock_for(Duration::from_secs(3600))
    }

    fn try_lock(&self) -> LockResult<OwnerlessGuard<'_>> {
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        match self.lock.compare_exchange(FREE, HELD, acquire, relaxed) {
            Ok(_) => Ok(OwnerlessGuard(self)),
            Err(_) => Err(LockError::WouldBlock),
        }
    }

    fn try_lock_for(&self, timeout: Duration) -> LockResult<OwnerlessGuard<'_>> {
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
        Ok(OwnerlessGuard(self))
    }

    fn recover<'a>(
        &'a self,
        poisoned: Poisoned<OwnerlessGuard<'a>>,
        repair: impl FnOnce(&mut Pair),
    ) -> OwnerlessGuard<'a> {
        let mut guard = poisoned.into_inner();
        repair(&mut guard);
        guard
    }

    fn wait<'a>(&'a self, guard: OwnerlessGuard<'a>) -> LockResult<OwnerlessGuard<'a>> {
        self.wait_timeout(guard, Duration::from_secs(3600))
    }

    fn wait_timeout<'a>(
        &'a self,
        guard: OwnerlessGuard<'a>,
        timeout: Duration,
    ) -> LockResult<OwnerlessGuard<'a>> {
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
