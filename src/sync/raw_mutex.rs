//! The mutex without its data: a robust pthread mutex, and words beside it for the
//! holder and the poison.
//!
//! # States
//!
//! | pthread mutex | holder | poison | meaning |
//! |---|---|---|---|
//! | free | 0 | 0 | free |
//! | held | 0, or another thread | any | just locked, or about to be unlocked, or held by C code |
//! | held | thread | any | held |
//! | owner died | dead thread, or as above | any | no thread has locked since the owner death |
//! | any | any | set | poisoned: the data may be inconsistent |
//!
//! # Invariants
//!
//! 1. `pid_namespace` is `NOT_PLACED` until the pthread mutex is initialised. Later it
//!    changes only when no thread uses the lock (`reinit`).
//! 2. Only a thread of that namespace calls pthread, and only if pthread knows its id.
//! 3. A thread that holds [`MAX_LOCKS_HELD`] robust locks does not lock. Those of C
//!    code and of other copies of this crate count.
//! 4. A locker sets the poison *before* it marks the mutex consistent. After a crash
//!    between the two, the next locker sees the owner death and repeats both.
//! 5. `holder` counts only if pthread's words name the same thread, because C code does
//!    not write it. Only the holder writes `holder`, `poison` and `poison_epoch`. There
//!    are two exceptions: `clear_poison` does not lock, and `reset` and `reinit` run
//!    while no other thread uses the lock.
//! 6. Any bytes are valid in every field, because a file may come from anywhere.
//!
//! # Memory ordering
//!
//! The mutex orders `holder` and `poison` (invariant 5), so they are `Relaxed`.
//! `pid_namespace` is stored with `Release` after `pthread_mutex_init`, and loaded with
//! `Acquire` before any other call.

mod cond_wait;
mod recovery;
mod relock;

use std::convert::Infallible;
use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::poison::{PoisonEpoch, PoisonWord};
use super::snapshot::{Holder, LockState, MutexState, Waiters};
use crate::error::LockError;
use crate::os::fork::ForkMarker;
use crate::os::pthread::{MUTEX_SIZE, Outcome, Protocol};
use crate::os::robust_list::MAX_ROBUST_LOCKS;
use crate::os::{private_owner, process};
use crate::robust::{Blocking, Entry, RobustMutex, ThreadState, Unlock};
use crate::shm_safe::{InitContext, SyncKind, SyncOps};

/// The number of robust locks that a thread can hold at a time.
///
/// When a thread ends, the kernel walks its list of robust locks, the newest first, and
/// stops after this many (`ROBUST_LIST_LIMIT` in `linux/futex.h`). If the thread held
/// one more, the kernel would never recover the oldest. So this crate refuses to lock
/// that one: [`LockError::TooManyLocks`].
///
/// All robust locks of the thread count, also those that C code or another copy of this
/// crate in the same process has locked. While other code holds some, a lock may cost a
/// walk over all that the thread holds (some nanoseconds for each).
///
/// C code can lock more mutexes *after* this crate than the kernel recovers. When the
/// thread then ends, its oldest locks are lost.
///
/// ```
/// use shm_sync::{LockError, MAX_LOCKS_HELD, Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let mutexes = Segment::anonymous([const { ShmMutex::new(0_u8) }; 2049])?;
/// let (last, others) = mutexes.split_last().expect("there are 2049 mutexes");
/// let mut guards = Vec::new();
/// for mutex in others {
///     guards.push(mutex.lock()?);
/// }
/// assert_eq!(guards.len(), MAX_LOCKS_HELD as usize);
/// assert!(matches!(last.lock(), Err(LockError::TooManyLocks)));
/// # Ok(())
/// # }
/// ```
pub const MAX_LOCKS_HELD: u32 = MAX_ROBUST_LOCKS;

/// Value of [`RawMutex::pid_namespace`] before initialisation. It is neither a valid
/// namespace nor 0, which marks a thread whose cached identity is invalid.
const NOT_PLACED: u32 = u32::MAX;

/// Proof that this thread has locked. Unlocking needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct LockToken {
    /// The marker of the process that has locked. It is not current in a forked child.
    marker: ForkMarker,
}

/// Why a thread has not acquired the lock. It is never [`LockError::Poisoned`], because
/// this lock has no data.
pub(super) type RawLockError = LockError<Infallible>;

/// A mutex without data. If a `pthread_mutex_t` has 40 bytes, this has 64.
#[repr(C)]
pub(super) struct RawMutex {
    pthread: RobustMutex,
    /// The holder's [`ThreadId`](crate::robust::ThreadId), or 0.
    holder: AtomicU64,
    pub(super) poison: PoisonWord,
    /// The pid namespace of the thread ids in the lock word. In private memory it is
    /// the process ([`private_owner`]). Before initialisation it is [`NOT_PLACED`].
    pid_namespace: AtomicU32,
    poison_epoch: PoisonEpoch,
    /// A [`Protocol`]. Read when the pthread mutex is initialised, and not written
    /// later.
    protocol: AtomicU8,
    _reserved: AtomicU8,
}

const _: () = {
    assert!(
        offset_of!(RawMutex, pthread) == 0,
        "C programs lock it at its address"
    );
    assert!(size_of::<RawMutex>() == MUTEX_SIZE as usize + 24);
    assert!(align_of::<RawMutex>() == 8);
};

impl RawMutex {
    pub(super) const fn new(protocol: Protocol) -> Self {
        Self {
            pthread: RobustMutex::new(),
            holder: AtomicU64::new(0),
            poison: PoisonWord::new(),
            pid_namespace: AtomicU32::new(NOT_PLACED),
            poison_epoch: PoisonEpoch::new(),
            protocol: AtomicU8::new(protocol as u8),
            _reserved: AtomicU8::new(0),
        }
    }

    /// Locks, if the lock is free and its last holder did not die. Otherwise it returns
    /// `None`, and [`lock_slow`](Self::lock_slow) finds the reason.
    #[inline]
    pub(super) fn try_lock_fast(&self, blocking: Blocking) -> Option<LockToken> {
        ThreadState::with_cached(|me| {
            // This comparison checks that the lock is initialised, that it belongs to
            // the thread's namespace, and that the thread's cached identity is valid.
            // No lock has namespace 0.
            if self.pid_namespace.load(Ordering::Acquire) != me.pid_namespace() {
                return None;
            }
            // `try_lock` may be called in a loop. It reads first, because each
            // compare-exchange would take the cache line from the holder.
            if matches!(blocking, Blocking::Try) && !self.is_unlocked() {
                return None;
            }
            let list = me.robust_list_for(&self.pthread)?;
            if !me.has_room_above(list.first()) {
                return None;
            }
            // SAFETY: the comparison has shown that the mutex is initialised. It stays
            // mapped, as the code that initialised it has promised. `robust_list_for`
            // has returned the list.
            let locked = unsafe { self.pthread.try_lock_fast(list) };
            locked.then(|| self.record_holder(me, list.first()))
        })
    }

    /// Locks the mutex. `blocking` says how long to wait. The second value tells
    /// whether the last holder died and this thread is the first to see it.
    #[cold]
    pub(super) fn lock_slow(&self, blocking: Blocking) -> Result<(LockToken, bool), RawLockError> {
        ThreadState::with(|me| {
            let me = me?;
            self.check_ready(me)?;
            // SAFETY: `check_ready` has shown that the mutex is initialised. It stays
            // mapped, as the code that initialised it has promised. `me` is this
            // thread.
            let outcome = unsafe { self.pthread.lock(me.owner(), blocking) };
            self.finish_lock(me, outcome, || self.pthread.needs_libc(me.owner()))
        })
    }

    /// Checks that this thread may lock: the lock is initialised, and belongs to this
    /// process or its namespace; the kernel would recover one more lock.
    fn check_ready(&self, me: &ThreadState) -> Result<(), RawLockError> {
        match self.pid_namespace.load(Ordering::Acquire) {
            NOT_PLACED => return Err(LockError::NotPlaced),
            word if private_owner::is_private(word) => {
                self.renew_if_copied().map_err(LockError::Os)?;
            }
            namespace if namespace != me.pid_namespace() => {
                return Err(LockError::ForeignPidNamespace);
            }
            _ => {}
        }
        if me.has_room() {
            Ok(())
        } else {
            Err(LockError::TooManyLocks)
        }
    }

    /// Reinitialises a lock in private memory, if it is a copy that a fork has made.
    #[cold]
    fn renew_if_copied(&self) -> io::Result<()> {
        private_owner::renew_if_copied(&self.pid_namespace, || {
            // SAFETY: the lock stays in its place. Only this process has this memory.
            // None of its threads holds the lock, waits for it or uses it otherwise:
            // each calls this function first, which makes it wait. Guards from before
            // the fork do nothing.
            unsafe { self.reinit_words() }
        })
    }

    /// Completes a lock: converts the outcome, recovers after an owner death, and
    /// records this thread as the holder. `by_libc` returns whether libc has locked.
    fn finish_lock(
        &self,
        me: &ThreadState,
        outcome: Outcome,
        by_libc: impl FnOnce() -> bool,
    ) -> Result<(LockToken, bool), RawLockError> {
        let owner_died = outcome == Outcome::OwnerDied;
        match outcome {
            Outcome::Acquired => {}
            Outcome::OwnerDied => self.recover_owner_death(me, by_libc())?,
            Outcome::Busy => return Err(LockError::WouldBlock),
            Outcome::TimedOut => return Err(LockError::TimedOut),
            Outcome::Deadlock => return Err(LockError::Deadlock),
            Outcome::NotRecoverable => return Err(LockError::NotRecoverable),
            Outcome::Failed(code) => {
                return Err(LockError::Os(io::Error::from_raw_os_error(code)));
            }
        }
        Ok((self.record_holder(me, me.first_held()), owner_died))
    }

    /// Records this thread as the holder. `first` is the first entry of its robust
    /// list: this lock.
    #[inline]
    fn record_holder(&self, me: &ThreadState, first: Entry) -> LockToken {
        self.holder.store(me.id().to_word(), Ordering::Relaxed);
        me.push_lock(first);
        LockToken {
            marker: me.marker(),
        }
    }

    /// Unlocks. Does nothing and returns `false` in a forked child, which has a copy of
    /// the token but not the lock, and if C code has already unlocked.
    #[inline]
    pub(super) fn unlock(&self, token: LockToken) -> bool {
        if !token.marker.is_current() {
            return false;
        }
        ThreadState::with_cached(|me| {
            // Only the holder clears `holder`: another thread's ids must stay. No other
            // thread changes a lock word that names this thread.
            let clear_holder = || self.holder.store(0, Ordering::Relaxed);
            let Some(list) = me.robust_list_for(&self.pthread) else {
                return self.unlock_slow(me, clear_holder);
            };
            // SAFETY: a token exists, so the mutex is initialised. `robust_list_for`
            // has returned the list.
            let was = unsafe { self.pthread.unlock_fast(list, clear_holder) };
            match was {
                Some(was) => me.pop_lock(was),
                None => me.forget_lock(),
            }
            was.is_some()
        })
    }

    /// Unlocks a mutex with priority inheritance, or by libc.
    #[cold]
    fn unlock_slow(&self, me: &ThreadState, clear_holder: impl FnOnce()) -> bool {
        // SAFETY: a token exists, so the mutex is initialised. `me` is this thread.
        match unsafe { self.pthread.unlock(me.owner(), clear_holder) } {
            Unlock::Removed(was) => {
                me.pop_lock(was);
                true
            }
            Unlock::ByLibc => {
                me.forget_lock();
                true
            }
            Unlock::NotHeld => {
                me.forget_lock();
                false
            }
        }
    }

    /// Returns how many times the mutex was poisoned: see [`PoisonEpoch`].
    pub(super) fn poison_epoch(&self) -> u16 {
        self.poison_epoch.get()
    }

    /// Returns whether the holder died and no thread has locked since.
    pub(super) fn owner_died(&self) -> bool {
        self.pthread.owner_died()
    }

    /// Returns whether no thread holds the lock at this moment.
    pub(super) fn is_unlocked(&self) -> bool {
        self.pthread.owner_tid() == 0
    }

    /// Returns whether the lock is initialised.
    pub(super) fn is_initialized(&self) -> bool {
        self.pid_namespace.load(Ordering::Acquire) != NOT_PLACED
    }

    /// Describes the lock by its words. Any words are valid, those of a copy as well.
    pub(super) fn state(&self) -> MutexState<Holder> {
        let lock = match self.pthread.owner_tid() {
            _ if !self.is_initialized() => LockState::NotPlaced,
            _ if self.owner_died() => LockState::OwnerDied,
            0 if self.pthread.is_unrecoverable() => LockState::NotRecoverable,
            0 => LockState::Free,
            tid => {
                let recorded = self.holder().filter(|holder| holder.tid == tid);
                let pid = recorded.map_or(0, |holder| holder.pid);
                LockState::Held(Holder { pid, tid })
            }
        };
        MutexState {
            poison: match lock {
                LockState::OwnerDied => self.poison_cause(),
                _ => self.poison.cause(),
            },
            lock,
            poison_count: self.poison_epoch(),
            waiters: if self.pthread.has_waiters() {
                Waiters::Some
            } else {
                Waiters::NoneSeen
            },
        }
    }

    /// Sets the protocol of a lock that is not initialised yet.
    pub(super) fn set_protocol(&mut self, protocol: Protocol) {
        *self.protocol.get_mut() = protocol as u8;
    }

    fn protocol(&self) -> Protocol {
        const PRIORITY_INHERITANCE: u8 = Protocol::PriorityInheritance as u8;
        match self.protocol.load(Ordering::Relaxed) {
            PRIORITY_INHERITANCE => Protocol::PriorityInheritance,
            // An unknown value is treated as `Protocol::None`.
            _ => Protocol::None,
        }
    }

    /// Initialises the lock.
    ///
    /// # Safety
    ///
    /// * It stays at this place in its memory object for as long as it is used.
    /// * No thread uses it yet, or any more.
    pub(super) unsafe fn init(&self, context: InitContext) -> io::Result<()> {
        // SAFETY: no thread uses, holds or waits for the mutex, and it stays in its
        // place, as the caller promises.
        unsafe { self.pthread.init(self.protocol()) }?;
        self.pid_namespace
            .store(context.pid_namespace, Ordering::Release);
        Ok(())
    }

    /// Returns whether a thread of this process holds the lock.
    pub(super) fn is_held_by_this_process(&self) -> bool {
        match self.pthread.owner_tid() {
            0 => false,
            tid => process::is_thread_of_this_process(tid),
        }
    }
}

/// The operations on a mutex whose type is unknown.
pub(super) static MUTEX: SyncOps = SyncOps {
    kind: SyncKind::Mutex,
    size: size_of::<RawMutex>(),
    init_zeroed: |at| {
        // SAFETY: the bytes are writable, aligned and long enough for a `RawMutex`, as
        // the caller of the field promises.
        unsafe { at.cast::<RawMutex>().write(RawMutex::new(Protocol::None)) };
    },
    init: |at, context| {
        // SAFETY: an uninitialised `RawMutex` lies at `at`, as the caller of the field
        // promises.
        let lock = unsafe { &*at.cast::<RawMutex>() };
        // SAFETY: the lock stays in its place, and no thread uses it yet, as the caller
        // of the field promises.
        unsafe { lock.init(context) }
    },
    reinit: |at, context| {
        // SAFETY: a `RawMutex` lies at `at`, as the caller of the field promises. Any
        // bytes are valid.
        let lock = unsafe { &*at.cast::<RawMutex>() };
        // SAFETY: the lock stays in its place, and no thread uses it, as the caller of
        // the field promises.
        unsafe { lock.reinit(context) }
    },
    is_held_by_this_process: |at| {
        // SAFETY: an initialised `RawMutex` lies at `at`, as the caller of the field
        // promises.
        let lock = unsafe { &*at.cast::<RawMutex>() };
        lock.is_held_by_this_process()
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::PoisonCause;
    use crate::os::futex::FUTEX_OWNER_DIED;
    use crate::robust::{self, ThreadId};

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
        let (token, _) = lock.relock(unlocked).expect("it is free");
        assert!(lock.unlock(token), "this thread has locked it");
        lock.poison.cause()
    }

    /// Returns the futex word of a lock that no other thread uses.
    fn word(lock: &mut RawMutex) -> &AtomicU32 {
        // SAFETY: a lock begins with its futex word, which is aligned.
        unsafe { AtomicU32::from_ptr((&raw mut *lock).cast()) }
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
        // The holder died after it had removed its id from `__owner`.
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
        lock.poison.set_panicked(ThreadId::new(51, 52));
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
