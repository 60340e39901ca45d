//! The holder of a robust lock, and recovery after its death: the record, and
//! reinitialisation.
//!
//! Only this crate writes `holder`. C code that locks or unlocks the same mutex does
//! not change it. So `holder` counts only if pthread's own words name the same thread.

use std::io;
use std::sync::atomic::Ordering;

use super::{LockToken, RawLockError, Record, RobustLock};
use crate::error::LockError;
use crate::robust::{LastOwner, ThreadId, ThreadState};
use crate::shm_safe::InitContext;
use crate::sync::snapshot::Holder;

impl<R: Record> RobustLock<R> {
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

    /// Records that the holder, `dead`, died.
    pub(in crate::sync) fn record_death_of(&self, dead: ThreadId) {
        self.record.set_owner_died(dead);
        self.failures.add_one();
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
    ///
    /// After an owner death, musl's words name no thread. Then the ids in `holder`
    /// count. They are wrong if C code has unlocked a mutex that this crate had locked,
    /// and the dead thread had locked it in C code.
    pub(in crate::sync) fn last_holder(&self) -> ThreadId {
        let recorded = self.recorded_holder();
        match self.pthread.last_owner() {
            LastOwner::Thread(tid) if tid == recorded.tid() => recorded,
            LastOwner::Thread(tid) => ThreadId::new(0, tid),
            LastOwner::Inconsistent | LastOwner::NoThread => ThreadId::NONE,
            LastOwner::NotStored => recorded,
        }
    }

    /// Recovers the lock after `EOWNERDEAD`: records the death, then marks the mutex
    /// consistent. After a crash in between, the next locker sees the owner death and
    /// repeats both steps (invariant 4). `by_libc` tells whether libc has locked.
    #[cold]
    pub(super) fn recover_owner_death(
        &self,
        me: &ThreadState,
        by_libc: bool,
    ) -> Result<(), RawLockError> {
        self.record_death_of(match self.pthread.last_owner() {
            // libc has overwritten the word that would confirm `holder`.
            LastOwner::Inconsistent if by_libc => self.recorded_holder(),
            _ => self.last_holder(),
        });
        // SAFETY: this thread holds the mutex after an owner death, so it is
        // initialised.
        unsafe { self.pthread.mark_consistent(me.owner()) }.map_err(LockError::Os)
    }

    /// Records the death of the holder, and reinitialises the pthread mutex.
    ///
    /// # Safety
    ///
    /// * The lock stays at this place in its memory object for as long as it is used.
    /// * No thread of any process holds the lock, waits for it or locks it during the
    ///   call.
    pub(in crate::sync) unsafe fn reset(&self) -> io::Result<()> {
        self.record_death_of(self.last_holder());
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
    pub(in crate::sync) unsafe fn reinit(&self, context: InitContext) -> io::Result<()> {
        // SAFETY: no thread uses the lock, and it stays in its place, as the caller
        // promises.
        unsafe { self.reinit_words() }?;
        self.pid_namespace
            .store(context.pid_namespace, Ordering::Release);
        Ok(())
    }

    /// Reinitialises all words but the namespace. Records the death of the holder
    /// first, if a thread held the lock. So after a crash at any point, the next caller
    /// can repeat this.
    ///
    /// # Safety
    ///
    /// * The lock stays at this place in its memory object for as long as it is used.
    /// * No living thread holds it, waits for it or otherwise uses it at this place.
    pub(super) unsafe fn reinit_words(&self) -> io::Result<()> {
        let was_held =
            !self.is_unlocked() || self.owner_died() || self.holder.load(Ordering::Relaxed) != 0;
        if was_held && !self.record.is_set() {
            self.record_death_of(self.last_holder());
        }
        self.holder.store(0, Ordering::Relaxed);
        // SAFETY: no thread uses, holds or waits for the mutex, and it stays in its
        // place, as the caller promises.
        unsafe { self.pthread.init(self.protocol()) }
    }
}
