//! The lock itself, without data: a robust pthread mutex, and words beside it that tell
//! which thread died and whether the data is in doubt.
//!
//! # States
//!
//! | pthread mutex | holder | poison | meaning |
//! |---|---|---|---|
//! | free | 0 | 0 | free |
//! | held | 0, or another thread | any | just locked, or about to be unlocked, or held by C code |
//! | held | thread | any | held |
//! | owner died | dead thread, or as above | any | no thread has locked it since the death |
//! | any | any | set | the data is in doubt |
//!
//! # Invariants
//!
//! 1. `pid_namespace` is `NOT_PLACED` until the pthread mutex is initialised. It
//!    changes afterwards only when no thread is left that used the lock (`revive`).
//! 2. Only a thread of that namespace calls pthread, and only if pthread knows its id.
//! 3. A thread that holds [`MAX_LOCKS_HELD`] robust locks takes no further lock. Those
//!    of C code and of other copies of this crate count.
//! 4. A locker sets the poison *before* it makes the mutex consistent. So a crash
//!    between the two leaves the mutex owner-dead, and the next locker repeats both.
//! 5. `holder` is believed only if pthread's words name the same thread: C code does
//!    not write it. Only a holder writes `holder`, `poison` and `poisonings`.
//!    (`clear_poison` does not wait for the lock; `reset` and `revive` have the lock to
//!    themselves.)
//! 6. Every field is valid with any bytes, because a file may come from anywhere.
//!
//! # Memory ordering
//!
//! `holder` and `poison` are ordered by the mutex (5), hence `Relaxed`.
//! `pid_namespace` is stored with `Release` after `pthread_mutex_init` and
//! loaded with `Acquire` before any other call.

mod holder;
mod lent;
mod on_cond;

use std::convert::Infallible;
use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::poison::{PoisonEpoch, PoisonWord};
use super::snapshot::{Holder, LockState, MutexState, Waiters};
use crate::error::LockError;
use crate::os::lineage;
use crate::os::process::{self, ForkMarker, ThreadState};
use crate::os::pthread::{Blocking, Entry, MAX_ROBUST_LOCKS, Outcome, Protocol, PthreadMutex};
use crate::shm_safe::{InitContext, SyncKind, SyncOps};

/// The number of robust locks that a thread can hold at a time.
///
/// When a thread dies, the kernel walks its list of robust locks, the youngest first,
/// and stops after this many (`ROBUST_LIST_LIMIT` in `linux/futex.h`). It would never
/// recover the oldest lock if the thread took one more. So this crate refuses that one:
/// [`LockError::TooManyLocks`](crate::LockError::TooManyLocks).
///
/// All robust locks of the thread count, also those that C code or another copy of this
/// crate in the same process has taken. While other code holds some, a lock may cost a
/// walk over all that the thread holds (some nanoseconds for each).
///
/// Nothing refuses C code that takes more locks *after* ours than the kernel recovers.
/// When the thread dies, its oldest locks are then lost.
pub const MAX_LOCKS_HELD: u32 = MAX_ROBUST_LOCKS;

/// The value of [`RawMutex::pid_namespace`] until the lock is placed. It is neither a
/// namespace nor 0, which marks a thread whose cached identity is invalid.
const NOT_PLACED: u32 = u32::MAX;

/// Proof that this thread has locked. Unlocking needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct LockToken {
    /// Tells a forked child that *another* process has locked.
    mark: ForkMarker,
}

/// Why a thread has not got the lock. It is never [`LockError::Poisoned`], because this
/// lock has no data.
pub(super) type RawLockError = LockError<Infallible>;

/// The lock. Where a `pthread_mutex_t` has 40 bytes, all of it has 64: one cache
/// line.
#[repr(C)]
pub(super) struct RawMutex {
    pthread: PthreadMutex,
    /// The holder's [`ThreadId`], or 0.
    holder: AtomicU64,
    pub(super) poison: PoisonWord,
    /// The namespace in which the lock word's thread ids mean something; in private
    /// memory the process ([`lineage`]); or [`NOT_PLACED`].
    pid_namespace: AtomicU32,
    poisonings: PoisonEpoch,
    /// A [`Protocol`]. Read when the pthread mutex is initialised, never written.
    protocol: AtomicU8,
    _reserved: u8,
}

const _: () = {
    assert!(
        offset_of!(RawMutex, pthread) == 0,
        "C programs lock it at its address"
    );
    assert!(size_of::<RawMutex>() == size_of::<PthreadMutex>() + 24);
    assert!(align_of::<RawMutex>() == 8);
};

impl RawMutex {
    pub(super) const fn new(protocol: Protocol) -> Self {
        Self {
            pthread: PthreadMutex::new(),
            holder: AtomicU64::new(0),
            poison: PoisonWord::new(),
            pid_namespace: AtomicU32::new(NOT_PLACED),
            poisonings: PoisonEpoch::new(),
            protocol: AtomicU8::new(protocol as u8),
            _reserved: 0,
        }
    }

    /// Locks, if the lock is free and this takes no special step. If not, it returns
    /// `None`, and [`lock_slow`](Self::lock_slow) finds out why.
    #[inline]
    pub(super) fn try_lock_fast(&self, patience: Blocking) -> Option<LockToken> {
        ThreadState::with_cached(|me| {
            // One comparison finds out that the lock is placed, that it belongs
            // to our namespace, and that the thread knows itself: no lock ever
            // has namespace 0.
            let ours = self.pid_namespace.load(Ordering::Acquire) == me.pid_namespace();
            if !ours {
                return None;
            }
            // A caller that doesn't wait may try in a loop. It reads first, because
            // each exchange would take the cache line away from the holder.
            if matches!(patience, Blocking::None) && !self.is_unlocked() {
                return None;
            }
            let list = self.pthread.robust_list_for(me.owner())?;
            if !me.has_room_above(list.first()) {
                return None;
            }
            // SAFETY: the lock is placed, so it is initialised, and the code that
            // placed it has promised that it stays mapped. `list_of` has returned this
            // thread's list.
            let taken = unsafe { self.pthread.try_lock_fast(list) };
            taken.then(|| self.taken_by(me, list.first()))
        })
    }

    /// Locks, and waits for that as long as `patience` allows. The second value tells
    /// whether the last holder has died and this thread is the first to learn it.
    #[cold]
    pub(super) fn lock_slow(&self, patience: Blocking) -> Result<(LockToken, bool), RawLockError> {
        ThreadState::with(|me| {
            let me = me?;
            self.check_ready(me)?;
            // SAFETY: as in `take_if_free`.
            let outcome = unsafe { self.pthread.lock(me.owner(), patience) };
            let by_libc = self.pthread.needs_libc(me.owner());
            self.settle(me, outcome, by_libc)
        })
    }

    fn check_ready(&self, me: &ThreadState) -> Result<(), RawLockError> {
        match self.pid_namespace.load(Ordering::Acquire) {
            NOT_PLACED => return Err(LockError::NotPlaced),
            word if lineage::is_private(word) => self.adopt().map_err(LockError::Os)?,
            theirs if theirs != me.pid_namespace() => return Err(LockError::ForeignPidNamespace),
            _ => {}
        }
        match me.has_room() {
            true => Ok(()),
            false => Err(LockError::TooManyLocks),
        }
    }

    /// Initialises a lock in private memory anew, if it came over a fork.
    #[cold]
    fn adopt(&self) -> io::Result<()> {
        lineage::adopt(&self.pid_namespace, || {
            // SAFETY: it lies where it will stay. Only this process has this memory.
            // None of its threads holds the lock, waits for it or uses it otherwise,
            // because each comes here first, and `adopt` makes it wait. Guards that
            // came over the fork do nothing.
            unsafe { self.renew() }
        })
    }

    /// Completes a lock: turns the outcome into a result, takes over from a dead
    /// holder, and names this thread. `by_libc` tells whether libc has locked.
    fn settle(
        &self,
        me: &ThreadState,
        outcome: Outcome,
        by_libc: bool,
    ) -> Result<(LockToken, bool), RawLockError> {
        let owner_died = outcome == Outcome::OwnerDied;
        match outcome {
            Outcome::Acquired => {}
            Outcome::OwnerDied => self.recover_owner_death(me, by_libc)?,
            Outcome::Busy => return Err(LockError::WouldBlock),
            Outcome::TimedOut => return Err(LockError::TimedOut),
            Outcome::Deadlock => return Err(LockError::Deadlock),
            Outcome::NotRecoverable => return Err(LockError::NotRecoverable),
            Outcome::Failed(code) => {
                return Err(LockError::Os(io::Error::from_raw_os_error(code)));
            }
        }
        Ok((self.taken_by(me, me.owner().first_held()), owner_died))
    }

    /// Names this thread as the holder. `first` is the first entry of its robust list:
    /// this lock.
    #[inline]
    fn taken_by(&self, me: &ThreadState, first: Entry) -> LockToken {
        self.holder.store(me.id().to_word(), Ordering::Relaxed);
        me.push_lock(first);
        LockToken { mark: me.marker() }
    }

    /// Unlocks. Does nothing and returns `false` in a forked child, which has inherited
    /// a copy of the proof but not the lock, and if C code has unlocked before.
    #[inline]
    pub(super) fn unlock(&self, held: LockToken) -> bool {
        if !process::is_current(held.mark) {
            return false;
        }
        ThreadState::with_cached(|me| {
            // Only if this thread holds it, because another thread's name must stay. No
            // other thread changes a lock word that names this thread.
            let nameless = || self.holder.store(0, Ordering::Relaxed);
            let unlocked = match self.pthread.robust_list_for(me.owner()) {
                // SAFETY: placed and so initialised, or there would be no `held`.
                // `list_of` has returned this thread's list.
                Some(list) => unsafe { self.pthread.unlock_after(list, nameless) },
                None => return self.unlock_slowly(me),
            };
            match unlocked {
                Some(was) => me.pop_lock(was),
                None => me.forget_lock(),
            }
            unlocked.is_some()
        })
    }

    /// Unlocks with priority inheritance, or by libc.
    #[cold]
    fn unlock_slowly(&self, me: &ThreadState) -> bool {
        if !self.pthread.is_held_by(me.owner()) {
            me.forget_lock();
            return false;
        }
        self.holder.store(0, Ordering::Relaxed);
        let was = match self.pthread.pi_list_for(me.owner()) {
            // SAFETY: placed and so initialised, as in `unlock`. `pi_list_for`
            // has returned this thread's list.
            Some(list) => unsafe { self.pthread.unlock_pi(list) },
            None => {
                // SAFETY: placed and so initialised, as in `unlock`.
                unsafe { self.pthread.unlock_with_libc() };
                None
            }
        };
        match was {
            Some(was) => me.pop_lock(was),
            None => me.forget_lock(),
        }
        true
    }

    /// Returns how many times the lock was poisoned: see [`PoisonEpoch`].
    pub(super) fn poison_epoch(&self) -> u16 {
        self.poisonings.get()
    }

    /// Returns whether the holder has died and no thread has locked since.
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
                LockState::OwnerDied => self.doubt(),
                _ => self.poison.cause(),
            },
            lock,
            poison_count: self.poison_epoch(),
            waiters: match self.pthread.has_waiters() {
                true => Waiters::Some,
                false => Waiters::NoneSeen,
            },
        }
    }

    /// Poisons, and initialises the pthread mutex anew. Its owner is lost, or has died
    /// and no thread has repaired the data.
    ///
    /// # Safety
    ///
    /// No thread of any process holds the lock or waits for it.
    pub(super) unsafe fn reset(&self) -> io::Result<()> {
        self.poison_by_death_of(self.last_holder());
        self.holder.store(0, Ordering::Relaxed);
        // SAFETY: no thread holds it, waits for it or locks it meanwhile, as the caller
        // promises. It stays where it was placed.
        unsafe { self.pthread.init(self.protocol()) }
    }

    fn protocol(&self) -> Protocol {
        const INHERIT: u8 = Protocol::PriorityInheritance as u8;
        match self.protocol.load(Ordering::Relaxed) {
            INHERIT => Protocol::PriorityInheritance,
            // An unknown value is treated as `Protocol::None`.
            _ => Protocol::None,
        }
    }

    /// Initialises a lock anew whose users are all gone, for this namespace.
    ///
    /// # Safety
    ///
    /// As for [`renew`](Self::renew).
    unsafe fn revive(&self, placement: InitContext) -> io::Result<()> {
        // SAFETY: as the caller promises, it lies where it will stay, and no thread
        // uses it.
        unsafe { self.renew() }?;
        self.pid_namespace
            .store(placement.pid_namespace, Ordering::Release);
        Ok(())
    }

    /// Frees a lock whose users are all gone. Poisons it if one of them held it. The
    /// poison comes first, so that the next caller can repeat this after a death at any
    /// point.
    ///
    /// # Safety
    ///
    /// * It lies where it will stay.
    /// * No living thread holds it, waits for it or otherwise uses it at this place.
    unsafe fn renew(&self) -> io::Result<()> {
        let was_held =
            !self.is_unlocked() || self.owner_died() || self.holder.load(Ordering::Relaxed) != 0;
        if was_held && self.poison.cause().is_none() {
            self.poison_by_death_of(self.last_holder());
        }
        self.holder.store(0, Ordering::Relaxed);
        // SAFETY: it lies where it will stay, and no thread uses it, as the caller
        // promises.
        unsafe { self.pthread.init(self.protocol()) }
    }

    /// Initialises the lock.
    ///
    /// # Safety
    ///
    /// * It lies where it will stay.
    /// * No thread uses it: not yet, or no more.
    pub(super) unsafe fn init(&self, placement: InitContext) -> io::Result<()> {
        // SAFETY: as the caller promises, it lies where it will stay, and no thread
        // uses it.
        unsafe { self.pthread.init(self.protocol()) }?;
        self.pid_namespace
            .store(placement.pid_namespace, Ordering::Release);
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

/// The object that a walk over a type reports for a mutex.
pub(super) static MUTEX: SyncOps = SyncOps {
    kind: SyncKind::Mutex,
    size: size_of::<RawMutex>(),
    init_zeroed: |at| {
        // SAFETY: by the contract of the field, the bytes are for a RawMutex.
        unsafe { at.cast::<RawMutex>().write(RawMutex::new(Protocol::None)) };
    },
    init: |at, placement| {
        // SAFETY: by the contract of the field, an inert RawMutex lies there.
        let lock = unsafe { &*at.cast::<RawMutex>() };
        // SAFETY: by the same contract, it stays, and no thread uses it yet.
        unsafe { lock.init(placement) }
    },
    reinit: |at, placement| {
        // SAFETY: by the contract of the field, a RawMutex lies there, of which
        // any bytes are valid.
        let lock = unsafe { &*at.cast::<RawMutex>() };
        // SAFETY: by the same contract, it stays, and no thread uses it.
        unsafe { lock.revive(placement) }
    },
    is_held_by_this_process: |at| {
        // SAFETY: by the contract of the field, a placed RawMutex lies there.
        let lock = unsafe { &*at.cast::<RawMutex>() };
        lock.is_held_by_this_process()
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::PoisonCause;
    use crate::os::process::ThreadId;

    /// `FUTEX_OWNER_DIED`
    const OWNER_DIED: u32 = 0x4000_0000;

    fn placement() -> InitContext {
        let pid_namespace = process::pid_namespace().expect("/proc is mounted");
        InitContext { pid_namespace }
    }

    fn placed(protocol: Protocol) -> Box<RawMutex> {
        let lock = Box::new(RawMutex::new(protocol));
        // SAFETY: it stays in its box, and nobody uses it yet.
        unsafe { lock.init(placement()) }.expect("pthread makes it");
        lock
    }

    /// What a copied file would hold.
    fn copy_of(lock: &RawMutex) -> Box<RawMutex> {
        let mut copy = Box::new(RawMutex::new(Protocol::None));
        // SAFETY: both are valid RawMutexes, whatever the bytes.
        unsafe { std::ptr::from_ref(lock).copy_to_nonoverlapping(&raw mut *copy, 1) };
        copy
    }

    /// Revives it, and checks that it is as good as new. Returns the poison.
    fn revived(lock: &mut RawMutex) -> Option<PoisonCause> {
        let at = (&raw mut *lock).cast();
        // SAFETY: the object stays where it is, and nobody else uses it.
        unsafe { (MUTEX.reinit)(at, placement()) }.expect("pthread makes it");
        assert_eq!(lock.holder(), None);
        assert!(lock.is_unlocked() && !lock.owner_died());
        let (held, owner_died) = lock.lock_slow(Blocking::Wait).expect("it is free");
        assert!(!owner_died);
        let lent = lock.lend(held).expect("this thread has locked it");
        let (held, _) = lock.take_back(lent).expect("it is free");
        assert!(lock.unlock(held), "this thread has locked it");
        lock.poison.cause()
    }

    /// The futex word of a lock that nobody uses now.
    fn word(lock: &mut RawMutex) -> &AtomicU32 {
        // SAFETY: every lock begins with its futex word, which is aligned.
        unsafe { AtomicU32::from_ptr((&raw mut *lock).cast()) }
    }

    #[test]
    fn smoke() {
        let mut zeros = Box::new(std::mem::MaybeUninit::<RawMutex>::zeroed());
        let at = zeros.as_mut_ptr().cast();
        // SAFETY: the bytes are for a RawMutex, are zero and this test's own.
        unsafe { (MUTEX.init_zeroed)(at) };
        // SAFETY: just written.
        let lock = unsafe { zeros.assume_init_mut() };
        assert!(!lock.is_initialized());
        assert!(matches!(
            lock.lock_slow(Blocking::Wait),
            Err(LockError::NotPlaced)
        ));
        assert_eq!(revived(lock), None);
    }

    #[test]
    fn reviving_what_was_free_poisons_nothing() {
        assert_eq!(revived(&mut placed(Protocol::None)), None);

        let mut lock = placed(Protocol::PriorityInheritance);
        // Of another boot.
        lock.pid_namespace.store(NOT_PLACED - 1, Ordering::Relaxed);
        assert!(matches!(
            lock.lock_slow(Blocking::Wait),
            Err(LockError::ForeignPidNamespace)
        ));
        assert_eq!(lock.protocol(), Protocol::PriorityInheritance);
        assert_eq!(revived(&mut lock), None);
    }

    #[test]
    fn reviving_what_was_held_names_the_holder() {
        let lock = placed(Protocol::None);
        let (held, _) = lock.lock_slow(Blocking::Wait).expect("it is free");
        let Holder { pid, tid } = lock.holder().expect("this thread holds it");
        let mut copy = copy_of(&lock);
        let poisonings = copy.poison_epoch();
        assert_eq!(
            revived(&mut copy),
            Some(PoisonCause::OwnerDied { pid, tid })
        );
        assert_eq!(
            lock.poison_epoch(),
            poisonings,
            "the original stays as it is"
        );

        // Taken, and not yet named; dead, and not yet inherited; given back, but
        // for the word, or but for the name.
        let nobody = Some(PoisonCause::OwnerDied { pid: 0, tid: 0 });
        let mut copy = copy_of(&lock);
        copy.holder.store(0, Ordering::Relaxed);
        let nameless = Some(PoisonCause::OwnerDied { pid: 0, tid });
        assert_eq!(revived(&mut copy), nameless);
        assert!(lock.unlock(held), "this thread has locked it");
        let mut copy = copy_of(&lock);
        word(&mut copy).store(OWNER_DIED, Ordering::Relaxed);
        assert_eq!(revived(&mut copy), nobody);
        let mut copy = copy_of(&lock);
        // It may be a name that was left when C code unlocked.
        let old = ThreadId::new(41, 42);
        copy.holder.store(old.to_word(), Ordering::Relaxed);
        assert_eq!(revived(&mut copy), nobody);
    }

    #[test]
    fn reviving_keeps_the_poison_that_is_there() {
        let mut lock = placed(Protocol::None);
        lock.poison.set_panicked(ThreadId::new(51, 52));
        let panicked = Some(PoisonCause::Panicked { pid: 51, tid: 52 });
        assert_eq!(revived(&mut copy_of(&lock)), panicked);
        lock.holder.store(7, Ordering::Relaxed);
        assert_eq!(revived(&mut lock), panicked);
    }

    #[test]
    fn reviving_bears_any_bytes() {
        for byte in [0, 1, 2, 0x55, 0x80, 0xff] {
            let mut lock = placed(Protocol::None);
            // SAFETY: any bytes are a RawMutex.
            unsafe { (&raw mut *lock).write_bytes(byte, 1) };
            assert_eq!(revived(&mut lock).is_some(), byte != 0, "{byte:#x}");
        }
    }
}
