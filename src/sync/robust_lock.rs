//! A robust lock without data: a robust pthread mutex, and words beside it for the
//! holder and for one record.
//!
//! A mutex and a seat are such locks. They differ in the record:
//!
//! | lock | record | the next locker after an owner death |
//! |---|---|---|
//! | [`RawMutex`](super::raw_mutex::RawMutex) | the poison | poisons the data |
//! | [`Seat`](super::seat::Seat) | the note of its occupant | learns of the death once |
//!
//! # States
//!
//! | pthread mutex | holder | meaning |
//! |---|---|---|
//! | free | 0 | free |
//! | held | 0, or another thread | just locked, or about to be unlocked, or held by C code |
//! | held | thread | held |
//! | owner died | dead thread, or as above | no thread has locked since the owner death |
//!
//! # Invariants
//!
//! 1. `pid_namespace` is `NOT_PLACED` until the pthread mutex is initialised. Later it
//!    changes only when no thread uses the lock (`reinit`).
//! 2. Only a thread of that namespace calls pthread, and only if pthread knows its id.
//! 3. A thread that holds [`MAX_LOCKS_HELD`] robust locks does not lock. Those of C
//!    code and of other copies of this crate count.
//! 4. A locker records the owner death *before* it marks the mutex consistent. After a
//!    crash between the two, the next locker sees the owner death and repeats both.
//! 5. `holder` counts only if pthread's words name the same thread, because C code does
//!    not write it. Only the holder writes `holder`, `record` and `failures`. There are
//!    two exceptions: `clear_poison` does not lock, and `reset` and `reinit` run while
//!    no other thread uses the lock.
//! 6. Any bytes are valid in every field, because a file may come from anywhere.
//!
//! # Memory ordering
//!
//! The mutex orders `holder` and the record (invariant 5), so they are `Relaxed`.
//! `pid_namespace` is stored with `Release` after `pthread_mutex_init`, and loaded with
//! `Acquire` before any other call. An unlock is sequentially consistent, because a
//! leaver of a seat then reads whether a thread waits for that: see
//! [`event_count`](super::event_count).

mod cond_wait;
mod recovery;
mod relock;

use std::convert::Infallible;
use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

use super::snapshot::{Holder, LockState, Waiters};
use crate::error::LockError;
use crate::os::fork::{FlaggedMarker, ForkMarker};
use crate::os::futex::Wake;
use crate::os::pthread::{MUTEX_SIZE, Outcome, Protocol};
use crate::os::robust_list::MAX_ROBUST_LOCKS;
use crate::os::{private_owner, process};
use crate::robust::{
    Blocking, FastLock, Queued, Released, RobustList, RobustMutex, Room, ThreadId, ThreadState,
    Unlock,
};
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

/// Value of [`RobustLock::pid_namespace`] before initialisation. It is neither a valid
/// namespace nor 0, which marks a thread whose cached identity is invalid.
pub(super) const NOT_PLACED: u32 = u32::MAX;

/// Proof that this thread has locked. Unlocking needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct LockToken {
    /// The marker of the process that has locked. It is not current in a forked child.
    marker: ForkMarker,
}

impl LockToken {
    /// Returns whether this process has locked. Returns `false` in a forked child.
    #[inline]
    pub(super) fn is_of_this_process(self) -> bool {
        self.marker.is_current()
    }
}

/// A [`LockToken`] with a flag, for a guard.
///
/// A guard of two words moves in registers. A third field of one byte would have it
/// move through memory, where a load of a whole word waits until the store of the byte
/// has reached the cache. That takes as long as a lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlaggedToken(FlaggedMarker);

impl FlaggedToken {
    #[inline]
    pub(super) fn new(token: LockToken, flag: bool) -> Self {
        Self(FlaggedMarker::new(token.marker, flag))
    }

    #[inline]
    pub(super) fn token(self) -> LockToken {
        let marker = self.0.marker();
        LockToken { marker }
    }

    #[inline]
    pub(super) fn flag(self) -> bool {
        self.0.flag()
    }
}

/// Why a thread has not acquired the lock. It is never [`LockError::Poisoned`], because
/// this lock has no data.
pub(super) type RawLockError = LockError<Infallible>;

/// The word beside a robust lock: what the lock records of a holder.
pub(super) trait Record {
    /// The word of a new lock.
    const NEW: Self;

    /// Returns whether the word records a failure of a holder.
    fn is_set(&self) -> bool;

    /// Records that `dead` died as the holder.
    fn set_owner_died(&self, dead: ThreadId);
}

/// A robust lock without data. If a `pthread_mutex_t` has 40 bytes, and the record 8,
/// this has 64.
#[repr(C)]
pub(super) struct RobustLock<R> {
    pthread: RobustMutex,
    /// The holder's [`ThreadId`], or 0.
    pub(super) holder: AtomicU64,
    pub(super) record: R,
    /// The pid namespace of the thread ids in the lock word. In private memory it is
    /// the process ([`private_owner`]). Before initialisation it is [`NOT_PLACED`].
    pub(super) pid_namespace: AtomicU32,
    pub(super) failures: FailureEpoch,
    /// A [`Protocol`]. Read when the pthread mutex is initialised, and not written
    /// later.
    protocol: AtomicU8,
    _reserved: AtomicU8,
}

const _: () = {
    type Lock = RobustLock<AtomicU64>;
    assert!(
        offset_of!(Lock, pthread) == 0,
        "C programs lock it at its address"
    );
    assert!(size_of::<Lock>() == MUTEX_SIZE as usize + 24);
    assert!(align_of::<Lock>() == 8);
};

/// How many times a holder has failed: it died, or panicked with the lock of a mutex.
/// Wraps around, so readers compare for equality only.
#[repr(C)]
pub(super) struct FailureEpoch(AtomicU16);

impl FailureEpoch {
    const fn new() -> Self {
        Self(AtomicU16::new(0))
    }

    pub(super) fn get(&self) -> u16 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl<R: Record> RobustLock<R> {
    pub(super) const fn new(protocol: Protocol) -> Self {
        Self {
            pthread: RobustMutex::new(),
            holder: AtomicU64::new(0),
            record: R::NEW,
            pid_namespace: AtomicU32::new(NOT_PLACED),
            failures: FailureEpoch::new(),
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
            if self.pid_namespace.load(Ordering::Acquire) != me.pid_namespace_fast() {
                return None;
            }
            // `try_lock` may be called in a loop. It reads first, because each
            // compare-exchange would take the cache line from the holder.
            if matches!(blocking, Blocking::Try) && !self.is_unlocked() {
                return None;
            }
            let list = me.robust_list_for(&self.pthread)?;
            let room = me.room_without_walk(list)?;
            // SAFETY: the comparison has shown that the mutex is initialised. It stays
            // mapped, as the code that initialised it has promised. `robust_list_for`
            // has returned the list.
            unsafe { self.acquire_fast(me, list, room) }
        })
    }

    /// Locks if the lock word is 0 and the mutex is recoverable: see
    /// [`RobustMutex::try_lock_fast`].
    ///
    /// # Safety
    ///
    /// The clauses of [`RobustMutex::try_lock_fast`].
    #[inline]
    unsafe fn acquire_fast(
        &self,
        me: &ThreadState,
        list: RobustList,
        room: Room,
    ) -> Option<LockToken> {
        // SAFETY: the caller promises all clauses.
        match unsafe { self.pthread.try_lock_fast(list) } {
            FastLock::Locked => Some(self.record_holder(me, room)),
            FastLock::NotFree => None,
            // SAFETY: `try_lock_fast` has just returned it for this mutex and list.
            FastLock::Unrecoverable => unsafe { self.give_back_unrecoverable(list) },
        }
    }

    /// Gives back an unrecoverable lock. Returns `None`, so that its caller may end
    /// with this call, and saves no registers for it.
    ///
    /// # Safety
    ///
    /// The clause of [`RobustMutex::give_back_unrecoverable`].
    #[cold]
    #[inline(never)]
    unsafe fn give_back_unrecoverable(&self, list: RobustList) -> Option<LockToken> {
        // SAFETY: the caller promises the clause.
        unsafe { self.pthread.give_back_unrecoverable(list) };
        None
    }

    /// Locks the mutex. `blocking` says how long to wait. The second value tells
    /// whether the last holder died and this thread is the first to see it.
    #[cold]
    pub(super) fn lock_slow(&self, blocking: Blocking) -> Result<(LockToken, bool), RawLockError> {
        self.lock_after(Queued::No, blocking)
    }

    /// Locks as [`lock_slow`](Self::lock_slow) does. `queued` tells whether this thread
    /// has slept in the queue of the mutex.
    fn lock_after(
        &self,
        queued: Queued,
        blocking: Blocking,
    ) -> Result<(LockToken, bool), RawLockError> {
        ThreadState::with(|me| {
            let me = me?;
            let room = self.check_ready(me)?;
            // SAFETY: `check_ready` has shown that the mutex is initialised. It stays
            // mapped, as the code that initialised it has promised. `me` is this
            // thread.
            let outcome = unsafe { self.pthread.lock(me.owner(), blocking, queued) };
            self.finish_lock(me, room, outcome, || self.pthread.needs_libc(me.owner()))
        })
    }

    /// Checks that this thread may lock: the lock is initialised, and belongs to this
    /// process or its namespace; the kernel would recover one more lock.
    fn check_ready(&self, me: &ThreadState) -> Result<Room, RawLockError> {
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
        me.room().ok_or(LockError::TooManyLocks)
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
        room: Room,
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
        Ok((self.record_holder(me, room), owner_died))
    }

    /// Records this thread as the holder of the lock, which is the first entry of its
    /// robust list.
    #[inline]
    fn record_holder(&self, me: &ThreadState, room: Room) -> LockToken {
        self.holder.store(me.id().to_word(), Ordering::Relaxed);
        me.push_lock(room);
        me.set_newest_lock(&self.pthread);
        LockToken {
            marker: me.marker(),
        }
    }

    /// Unlocks. Does nothing and returns `false` in a forked child, which has a copy of
    /// the token but not the lock, and if C code has already unlocked.
    #[inline]
    pub(super) fn unlock(&self, token: LockToken) -> bool {
        self.unlock_fast(token) || self.unlock_slow(token)
    }

    /// Unlocks, if the thread has locked this lock last. Returns `false` otherwise. The
    /// caller then calls [`unlock_slow`](Self::unlock_slow), which handles all other
    /// states.
    #[inline]
    pub(super) fn unlock_fast(&self, token: LockToken) -> bool {
        if !token.marker.is_current_fast() {
            return false;
        }
        ThreadState::with_cached(|me| {
            let Some(list) = me.robust_list_for(&self.pthread) else {
                return false;
            };
            // SAFETY: a token exists, so the mutex is initialised. `robust_list_for`
            // has returned the list.
            let released = unsafe { self.pthread.unlock_fast(list, || self.clear_holder()) };
            let Some(released) = released else {
                return false;
            };
            let must_do_more = me.begin_unlock();
            if released.has_waiters() || must_do_more {
                self.finish_unlock(me, list, released);
            } else {
                self.pthread.finish_unlock(list, released, Wake::One);
            }
            true
        })
    }

    /// Completes an unlock. It is out of line, so that callers inline only a few
    /// instructions.
    #[inline(never)]
    fn finish_unlock(&self, me: &ThreadState, list: RobustList, released: Released) {
        let lockers = me.take_lockers_to_wake();
        me.pop_lock(self.pthread.finish_unlock(list, released, lockers));
        me.make_deferred_wakes();
    }

    /// Removes the ids of the holder, which is this thread. The ids of another thread
    /// must stay. No other thread changes a lock word that names this thread.
    #[inline]
    fn clear_holder(&self) {
        self.holder.store(0, Ordering::Relaxed);
    }

    /// Unlocks as [`unlock`](Self::unlock) does, in any state.
    #[cold]
    pub(super) fn unlock_slow(&self, token: LockToken) -> bool {
        if !token.marker.is_current() {
            return false;
        }
        ThreadState::with_cached(|me| {
            let lockers = me.take_lockers_to_wake();
            // SAFETY: a token exists, so the mutex is initialised. `me` is this thread.
            let unlock = unsafe {
                self.pthread
                    .unlock(me.owner(), || self.clear_holder(), lockers)
            };
            // libc and the kernel only release the word: see "Memory ordering".
            fence(Ordering::SeqCst);
            match unlock {
                Unlock::Removed(was) => me.pop_lock(was),
                Unlock::ByLibc | Unlock::NotHeld => me.forget_lock(),
            }
            me.begin_unlock();
            me.make_deferred_wakes();
            !matches!(unlock, Unlock::NotHeld)
        })
    }

    /// Returns the address of the pthread mutex.
    pub(super) fn pthread_address(&self) -> usize {
        std::ptr::from_ref(&self.pthread).addr()
    }

    /// Returns whether the holder died and no thread has locked since.
    pub(super) fn owner_died(&self) -> bool {
        self.pthread.owner_died()
    }

    /// Returns whether no thread holds the lock at this moment.
    pub(super) fn is_unlocked(&self) -> bool {
        self.pthread.owner_tid() == 0
    }

    /// Returns whether no thread holds the lock. The load is sequentially consistent.
    #[inline]
    pub(super) fn is_unlocked_seq_cst(&self) -> bool {
        self.owner_tid_seq_cst() == 0
    }

    /// Returns the holder's thread id, or 0, by a sequentially consistent load.
    #[inline]
    pub(super) fn owner_tid_seq_cst(&self) -> u32 {
        self.pthread.owner_tid_seq_cst()
    }

    /// Returns whether this thread holds the lock.
    pub(super) fn is_held_by_this_thread(&self) -> bool {
        ThreadState::with(|me| me.is_ok_and(|me| self.pthread.is_held_by(me.owner())))
    }

    /// Returns the token of the lock, if this thread holds it.
    pub(super) fn token_of_this_thread(&self) -> Option<LockToken> {
        let marker = ThreadState::with(|me| Some(me.ok()?.marker()))?;
        self.is_held_by_this_thread()
            .then_some(LockToken { marker })
    }

    /// Prepares a wait for the end of the holder: marks the lock word, so that an
    /// unlock and the kernel wake a waiter. Returns the word and its value during such
    /// a wait, or `None` if no thread holds the lock.
    pub(super) fn watch(&self) -> Option<(&AtomicU32, u32)> {
        self.pthread.watch()
    }

    /// Checks that this thread may lock: see the errors of
    /// [`lock_slow`](Self::lock_slow).
    pub(super) fn check(&self) -> Result<(), RawLockError> {
        ThreadState::with(|me| self.check_ready(me?).map(drop))
    }

    /// Returns whether the lock is initialised.
    pub(super) fn is_initialized(&self) -> bool {
        self.pid_namespace.load(Ordering::Acquire) != NOT_PLACED
    }

    /// Describes the lock by its words. Any words are valid, those of a copy as well.
    pub(super) fn state(&self) -> LockState<Holder> {
        match self.pthread.owner_tid() {
            _ if !self.is_initialized() => LockState::NotPlaced,
            _ if self.owner_died() => LockState::OwnerDied,
            0 if self.pthread.is_unrecoverable() => LockState::NotRecoverable,
            0 => LockState::Free,
            tid => {
                let recorded = self.holder().filter(|holder| holder.tid == tid);
                let pid = recorded.map_or(0, |holder| holder.pid);
                LockState::Held(Holder { pid, tid })
            }
        }
    }

    /// Returns the waiters, as far as the lock word shows them.
    pub(super) fn waiters(&self) -> Waiters {
        if self.pthread.has_waiters() {
            Waiters::Some
        } else {
            Waiters::NoneSeen
        }
    }

    /// Sets the protocol of a lock that is not initialised yet.
    pub(super) fn set_protocol(&mut self, protocol: Protocol) {
        *self.protocol.get_mut() = protocol as u8;
    }

    pub(super) fn protocol(&self) -> Protocol {
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

/// Returns the operations on a lock with the record `R` whose type is unknown.
pub(super) const fn sync_ops<R: Record>(kind: SyncKind) -> SyncOps {
    SyncOps {
        kind,
        size: size_of::<RobustLock<R>>(),
        init_zeroed: |at| {
            let lock = RobustLock::<R>::new(Protocol::None);
            // SAFETY: the bytes are writable, aligned and long enough for a lock, as
            // the caller of the field promises.
            unsafe { at.cast::<RobustLock<R>>().write(lock) };
        },
        init: |at, context| {
            // SAFETY: an uninitialised lock lies at `at`, as the caller of the field
            // promises.
            let lock = unsafe { &*at.cast::<RobustLock<R>>() };
            // SAFETY: the lock stays in its place, and no thread uses it yet, as the
            // caller of the field promises.
            unsafe { lock.init(context) }
        },
        reinit: |at, context| {
            // SAFETY: a lock lies at `at`, as the caller of the field promises. Any
            // bytes are valid.
            let lock = unsafe { &*at.cast::<RobustLock<R>>() };
            // SAFETY: the lock stays in its place, and no thread uses it, as the caller
            // of the field promises.
            unsafe { lock.reinit(context) }
        },
        is_held_by_this_process: |at| {
            // SAFETY: an initialised lock lies at `at`, as the caller of the field
            // promises.
            let lock = unsafe { &*at.cast::<RobustLock<R>>() };
            lock.is_held_by_this_process()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn numbers_are_documented() {
        type Lock = RobustLock<AtomicU64>;
        documented::fields!(
            "robust lock",
            Lock {
                pthread,
                holder,
                record,
                pid_namespace,
                failures,
                protocol,
                _reserved
            }
        );
        documented::values(
            "words of a robust lock",
            &[
                ("NOT_PLACED", NOT_PLACED.into()),
                ("None", Protocol::None as u64),
                ("PriorityInheritance", Protocol::PriorityInheritance as u64),
            ],
        );
    }
}
