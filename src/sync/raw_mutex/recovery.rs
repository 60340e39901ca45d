//! The holder of a mutex, and recovery after its death: poison, reset,
//! reinitialisation.
//!
//! Only this crate writes `holder`. C code that locks or unlocks the same mutex does
//! not change it. So `holder` counts only if pthread's own words name the same thread.

use std::io;
use std::sync::atomic::Ordering;

use super::{LockToken, RawLockError, RawMutex};
use crate::error::{LockError, PoisonCause};
use crate::robust::{LastOwner, ThreadId, ThreadState};
use crate::shm_safe::InitContext;
use crate::sync::snapshot::Holder;

impl RawMutex {
    /// Returns whether this thread holds the lock. Returns `false` in a forked child,
    /// which has a copy of the token, and if C code has unlocked.
    #[cold]
    pub(in crate::sync) fn is_held(&self, token: LockToken) -> bool {
        token.marker.is_current()
            && ThreadState::with_cached(|me| self.pthread.is_held_by(me.owner()))
    }

    /// Returns the holder, or the thread that died as the holder, if `holder` names it.
    pub(in crate::sync) fn holder(&self) -> Option<Holder> {
        let recorded = self.recorded_holder();
        let tid = match self.pthread.owner_tid() {
            0 if self.owner_died() => self.last_holder().tid(),
            tid => tid,
        };
        (tid != 0 && tid == recorded.tid() && recorded.pid() != 0).then(|| Holder {
            pid: recorded.pid(),
            tid,
        })
    }

    /// Poisons the mutex because the holder, `dead`, died.
    pub(super) fn poison_by_death_of(&self, dead: ThreadId) {
        self.poison.set_owner_died(dead);
        self.poison_epoch.add_one();
    }

    /// Returns the thread that `holder` names. The lock may have another holder, if C
    /// code has locked or unlocked.
    fn recorded_holder(&self) -> ThreadId {
        ThreadId::from_word(self.holder.load(Ordering::Relaxed))
    }

    /// Returns the thread that holds the lock, or died as its holder.
    ///
    /// The ids in `holder` count if pthread's words name the same thread. Otherwise the
    /// process is unknown: C code has locked, or a thread has just locked and not yet
    /// recorded itself. The kernel reuses thread ids, so old ids can agree by chance.
    pub(super) fn last_holder(&self) -> ThreadId {
        let recorded = self.recorded_holder();
        match self.pthread.last_owner() {
            LastOwner::Thread(tid) if tid == recorded.tid() => recorded,
            LastOwner::Thread(tid) => ThreadId::new(0, tid),
            LastOwner::Inconsistent | LastOwner::NoThread => ThreadId::NONE,
        }
    }

    /// Recovers the lock after `EOWNERDEAD`: poisons the data, then marks the mutex
    /// consistent. After a crash in between, the next locker sees the owner death and
    /// repeats both steps (invariant 4). `by_libc` tells whether libc has locked.
    #[cold]
    pub(super) fn recover_owner_death(
        &self,
        me: &ThreadState,
        by_libc: bool,
    ) -> Result<(), RawLockError> {
        self.poison_by_death_of(match self.pthread.last_owner() {
            // libc has overwritten the word that would confirm `holder`.
            LastOwner::Inconsistent if by_libc => self.recorded_holder(),
            _ => self.last_holder(),
        });
        // SAFETY: this thread holds the mutex after an owner death, so it is
        // initialised.
        unsafe { self.pthread.mark_consistent(me.owner()) }.map_err(LockError::Os)
    }

    /// Poisons the mutex because this thread panics. Does nothing if this thread does
    /// not hold the lock: see [`is_held`](Self::is_held).
    #[cold]
    pub(in crate::sync) fn poison_by_panic(&self, token: LockToken) {
        if self.is_held(token) {
            let me = ThreadState::with_cached(ThreadState::id);
            self.poison.set_panicked(me);
            self.poison_epoch.add_one();
        }
    }

    /// Returns why the data may be inconsistent. Includes an owner death that no locker
    /// has seen yet.
    pub(in crate::sync) fn poison_cause(&self) -> Option<PoisonCause> {
        self.poison.cause().or_else(|| {
            self.owner_died().then(|| {
                let dead = self.last_holder();
                PoisonCause::OwnerDied {
                    pid: dead.pid(),
                    tid: dead.tid(),
                }
            })
        })
    }

    /// Poisons the mutex, and reinitialises the pthread mutex.
    ///
    /// # Safety
    ///
    /// * The lock stays at this place in its memory object for as long as it is used.
    /// * No thread of any process holds the lock, waits for it or locks it during the
    ///   call.
    pub(in crate::sync) unsafe fn reset(&self) -> io::Result<()> {
        self.poison_by_death_of(self.last_holder());
        self.holder.store(0, Ordering::Relaxed);
        // SAFETY: no thread uses, holds or waits for the mutex, and it stays in its
        // place, as the caller promises.
        unsafe { self.pthread.init(self.protocol()) }
    }

    /// Reinitialises a lock that no thread uses any more, for this namespace.
    ///
    /// # Safety
    ///
    /// * The lock stays at this place in its memory object for as long as it is used.
    /// * No living thread holds it, waits for it or otherwise uses it at this place.
    pub(super) unsafe fn reinit(&self, context: InitContext) -> io::Result<()> {
        // SAFETY: no thread uses the lock, and it stays in its place, as the caller
        // promises.
        unsafe { self.reinit_words() }?;
        self.pid_namespace
            .store(context.pid_namespace, Ordering::Release);
        Ok(())
    }

    /// Reinitialises all words but the namespace. Poisons the mutex first, if a thread
    /// held it. So after a crash at any point, the next caller can repeat this.
    ///
    /// # Safety
    ///
    /// * The lock stays at this place in its memory object for as long as it is used.
    /// * No living thread holds it, waits for it or otherwise uses it at this place.
    pub(super) unsafe fn reinit_words(&self) -> io::Result<()> {
        let was_held =
            !self.is_unlocked() || self.owner_died() || self.holder.load(Ordering::Relaxed) != 0;
        if was_held && self.poison.cause().is_none() {
            self.poison_by_death_of(self.last_holder());
        }
        self.holder.store(0, Ordering::Relaxed);
        // SAFETY: no thread uses, holds or waits for the mutex, and it stays in its
        // place, as the caller promises.
        unsafe { self.pthread.init(self.protocol()) }
    }
}
