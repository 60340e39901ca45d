//! The mutex without its data: a robust lock with poison.
//!
//! | lock | poison | meaning |
//! |---|---|---|
//! | any | set | poisoned: the data may be inconsistent |
//! | owner died | any | no thread has locked since; the next locker poisons |

use super::poison::PoisonWord;
use super::robust_lock::{self, LockToken, Record, RobustLock};
use super::snapshot::{Holder, LockState, MutexState};
use crate::error::PoisonCause;
use crate::os::pthread::MUTEX_SIZE;
use crate::robust::{ThreadId, ThreadState};
use crate::shm_safe::{SyncKind, SyncOps};

/// A mutex without data. If a `pthread_mutex_t` has 40 bytes, this has 64.
pub(super) type RawMutex = RobustLock<PoisonWord>;

const _: () = assert!(size_of::<RawMutex>() == MUTEX_SIZE as usize + 24);

impl Record for PoisonWord {
    const NEW: Self = Self::new();

    fn is_set(&self) -> bool {
        self.cause().is_some()
    }

    fn set_owner_died(&self, dead: ThreadId) {
        PoisonWord::set_owner_died(self, dead);
    }
}

impl RawMutex {
    #[inline]
    pub(super) fn poison(&self) -> &PoisonWord {
        &self.record
    }

    /// Returns how many times the mutex was poisoned. Wraps around, so readers compare
    /// for equality only. It tells a waiter that the poison was set and cleared during
    /// its wait.
    pub(super) fn poison_epoch(&self) -> u16 {
        self.failures.get()
    }

    /// Poisons the mutex because this thread panics. Does nothing if this thread does
    /// not hold the lock: see [`is_held`](Self::is_held).
    #[cold]
    pub(super) fn poison_by_panic(&self, token: LockToken) {
        if self.is_held(token) {
            let me = ThreadState::with_cached(ThreadState::id);
            self.record.set_panicked(me);
            self.failures.add_one();
        }
    }

    /// Returns why the data may be inconsistent. Includes an owner death that no locker
    /// has seen yet.
    pub(super) fn poison_cause(&self) -> Option<PoisonCause> {
        self.record.cause().or_else(|| {
            self.owner_died().then(|| {
                let dead = self.last_holder();
                PoisonCause::OwnerDied {
                    pid: dead.pid(),
                    tid: dead.tid(),
                }
            })
        })
    }

    /// Describes the mutex by its words. Any words are valid, those of a copy as well.
    pub(super) fn mutex_state(&self) -> MutexState<Holder> {
        let lock = self.state();
        MutexState {
            poison: match lock {
                LockState::OwnerDied => self.poison_cause(),
                _ => self.record.cause(),
            },
            lock,
            poison_count: self.poison_epoch(),
            waiters: self.waiters(),
        }
    }
}

/// The operations on a mutex whose type is unknown.
pub(super) static MUTEX: SyncOps = robust_lock::sync_ops::<PoisonWord>(SyncKind::Mutex);

#[cfg(test)]
mod tests {
    use super::super::robust_lock::NOT_PLACED;
    use super::*;
    use crate::error::LockError;
    use crate::os::futex::FUTEX_OWNER_DIED;
    use crate::os::pthread::Protocol;
    use crate::robust::{self, Blocking, LOCK_WORD_OFFSET, Queued};
    use crate::shm_safe::InitContext;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn context() -> InitContext {
        let pid_namespace = robust::pid_namespace().expect("/proc is mounted");
        InitContext { pid_namespace }
    }

    fn initialised(protocol: Protocol) -> Box<RawMutex> {
        let lock = Box::new(RawMutex::new(protocol));
        // SAFETY: the lock stays in its box, and no thread uses it yet.
        unsafe { lock.init(context()) }.expect("pthread initialises it");
        lock
    }

    /// Copies a lock, like a copy of its file.
    fn copy_of(lock: &RawMutex) -> Box<RawMutex> {
        let mut copy = Box::new(RawMutex::new(Protocol::None));
        // SAFETY: both are as large as a `RawMutex`, for which any bytes are valid.
        unsafe { std::ptr::from_ref(lock).copy_to_nonoverlapping(&raw mut *copy, 1) };
        copy
    }

    /// Reinitialises a lock, and checks that it can be used. Returns the poison.
    fn reinitialised(lock: &mut RawMutex) -> Option<PoisonCause> {
        let at = (&raw mut *lock).cast();
        // SAFETY: a `RawMutex` lies at `at` and stays there. No other thread uses it.
        unsafe { (MUTEX.reinit)(at, context()) }.expect("pthread initialises it");
        assert_eq!(lock.holder(), None);
        assert!(lock.is_unlocked() && !lock.owner_died());
        let (token, owner_died) = lock.lock_slow(Blocking::Wait).expect("it is free");
        assert!(!owner_died);
        let unlocked = lock
            .unlock_for_wait(token)
            .expect("this thread has locked it");
        let (_, token, _) = lock
            .wait_and_relock(unlocked, || Ok(((), Queued::No)))
            .expect("it is free");
        assert!(lock.unlock(token), "this thread has locked it");
        lock.poison().cause()
    }

    /// Returns the futex word of a lock that no other thread uses.
    fn word(lock: &mut RawMutex) -> &AtomicU32 {
        let at = (&raw mut *lock).wrapping_byte_add(LOCK_WORD_OFFSET);
        // SAFETY: the aligned futex word of the lock lies there.
        unsafe { AtomicU32::from_ptr(at.cast()) }
    }

    #[test]
    fn smoke() {
        let mut zeros = Box::new(std::mem::MaybeUninit::<RawMutex>::zeroed());
        let at = zeros.as_mut_ptr().cast();
        // SAFETY: the bytes are zero, and aligned and long enough for a `RawMutex`. No
        // other thread uses them.
        unsafe { (MUTEX.init_zeroed)(at) };
        // SAFETY: `init_zeroed` has written a `RawMutex`.
        let lock = unsafe { zeros.assume_init_mut() };
        assert!(!lock.is_initialized());
        assert!(matches!(
            lock.lock_slow(Blocking::Wait),
            Err(LockError::NotPlaced)
        ));
        assert_eq!(reinitialised(lock), None);
    }

    #[test]
    fn reinit_of_free_lock_does_not_poison() {
        assert_eq!(reinitialised(&mut initialised(Protocol::None)), None);

        let mut lock = initialised(Protocol::PriorityInheritance);
        // A lock of another boot.
        lock.pid_namespace.store(NOT_PLACED - 1, Ordering::Relaxed);
        assert!(matches!(
            lock.lock_slow(Blocking::Wait),
            Err(LockError::ForeignPidNamespace)
        ));
        assert_eq!(lock.protocol(), Protocol::PriorityInheritance);
        assert_eq!(reinitialised(&mut lock), None);
    }

    #[test]
    fn reinit_of_held_lock_names_the_holder() {
        let lock = initialised(Protocol::None);
        let (token, _) = lock.lock_slow(Blocking::Wait).expect("it is free");
        let Holder { pid, tid } = lock.holder().expect("this thread holds it");
        let mut copy = copy_of(&lock);
        let epoch = copy.poison_epoch();
        assert_eq!(
            reinitialised(&mut copy),
            Some(PoisonCause::OwnerDied { pid, tid })
        );
        assert_eq!(lock.poison_epoch(), epoch, "the original does not change");

        // The holder died before it recorded itself.
        let mut copy = copy_of(&lock);
        copy.holder.store(0, Ordering::Relaxed);
        let unknown_process = Some(PoisonCause::OwnerDied { pid: 0, tid });
        assert_eq!(reinitialised(&mut copy), unknown_process);
        assert!(lock.unlock(token), "this thread has locked it");
        // The holder died after it had removed its ids.
        let unknown = Some(PoisonCause::OwnerDied { pid: 0, tid: 0 });
        let mut copy = copy_of(&lock);
        word(&mut copy).store(FUTEX_OWNER_DIED, Ordering::Relaxed);
        assert_eq!(reinitialised(&mut copy), unknown);
        // C code has unlocked, and has left the ids of the holder.
        let mut copy = copy_of(&lock);
        let old = ThreadId::new(41, 42);
        copy.holder.store(old.to_word(), Ordering::Relaxed);
        assert_eq!(reinitialised(&mut copy), unknown);
    }

    #[test]
    fn reinit_keeps_poison() {
        let mut lock = initialised(Protocol::None);
        lock.poison().set_panicked(ThreadId::new(51, 52));
        let panicked = Some(PoisonCause::Panicked { pid: 51, tid: 52 });
        assert_eq!(reinitialised(&mut copy_of(&lock)), panicked);
        lock.holder.store(7, Ordering::Relaxed);
        assert_eq!(reinitialised(&mut lock), panicked);
    }

    #[test]
    fn reinit_accepts_any_bytes() {
        for byte in [0, 1, 2, 0x55, 0x80, 0xff] {
            let mut lock = initialised(Protocol::None);
            // SAFETY: any bytes are valid as a `RawMutex`.
            unsafe { (&raw mut *lock).write_bytes(byte, 1) };
            assert_eq!(reinitialised(&mut lock).is_some(), byte != 0, "{byte:#x}");
        }
    }
}
