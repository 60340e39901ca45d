//! The thread that holds the lock, or held it last; and the poison after its death or
//! panic.
//!
//! Only this crate writes `holder`: C code that locks or unlocks the same mutex leaves
//! it as it is. So this crate believes it only if pthread's own words name the same
//! thread.

use std::io;
use std::sync::atomic::Ordering;

use super::{LockToken, RawLockError, RawMutex};
use crate::error::{LockError, PoisonCause};
use crate::robust::{LastOwner, ThreadId, ThreadState};
use crate::shm_safe::InitContext;
use crate::sync::snapshot::Holder;

impl RawMutex {
    /// Returns whether the thread still holds the lock. A forked child does not: it has
    /// inherited a copy of the proof. Nor does a thread whose C code has unlocked.
    #[cold]
    pub(in crate::sync) fn is_held(&self, token: LockToken) -> bool {
        token.marker.is_current()
            && ThreadState::with_cached(|me| self.pthread.is_held_by(me.owner()))
    }

    /// Returns the holder, or the thread that died as the holder, if it has left its
    /// name.
    pub(in crate::sync) fn holder(&self) -> Option<Holder> {
        let named = self.named();
        let tid = match self.pthread.owner_tid() {
            0 if self.owner_died() => self.last_holder().tid(),
            tid => tid,
        };
        (tid != 0 && tid == named.tid() && named.pid() != 0).then(|| Holder {
            pid: named.pid(),
            tid,
        })
    }

    /// Marks the data as in doubt, because the thread `dead` died.
    pub(super) fn poison_by_death_of(&self, dead: ThreadId) {
        self.poison.set_owner_died(dead);
        self.poisonings.add_one();
    }

    /// Returns the thread that `holder` names. After C code has locked or unlocked, the
    /// lock may have another holder.
    fn named(&self) -> ThreadId {
        ThreadId::from_word(self.holder.load(Ordering::Relaxed))
    }

    /// Returns the thread that holds the lock, or died as its holder. The name in
    /// `holder` counts if pthread names the same thread. If not, C code has locked, or
    /// a thread has just locked and not yet written its name: then the process is
    /// unknown. The kernel uses thread ids again, so an old name can agree by chance.
    pub(super) fn last_holder(&self) -> ThreadId {
        let named = self.named();
        match self.pthread.last_owner() {
            LastOwner::Thread(tid) if tid == named.tid() => named,
            LastOwner::Thread(tid) => ThreadId::new(0, tid),
            LastOwner::Inconsistent | LastOwner::NoThread => ThreadId::NONE,
        }
    }

    /// Takes over from a dead holder, in an order that a further death at any
    /// point leaves repeatable (invariant 4).
    #[cold]
    pub(super) fn recover_owner_death(
        &self,
        me: &ThreadState,
        by_libc: bool,
    ) -> Result<(), RawLockError> {
        self.poison_by_death_of(match self.pthread.last_owner() {
            // libc has overwritten the word that would confirm the name.
            LastOwner::Inconsistent if by_libc => self.named(),
            _ => self.last_holder(),
        });
        // SAFETY: placed and so initialised. This thread holds it after `OwnerDied`.
        let consistent = unsafe { self.pthread.mark_consistent(me.owner()) };
        consistent.map_err(|error| {
            // Not known to happen. Unlocking makes the mutex unrecoverable: the caller
            // gets this error, and all others get `NotRecoverable`.
            // SAFETY: placed and so initialised.
            unsafe { self.pthread.as_pthread().unlock() };
            LockError::Os(error)
        })
    }

    /// Marks the data as in doubt because this thread panics. A thread that does not
    /// hold the lock marks nothing: see [`is_held`](Self::is_held).
    #[cold]
    pub(in crate::sync) fn poison_by_panic(&self, token: LockToken) {
        if self.is_held(token) {
            let me = ThreadState::with_cached(ThreadState::id);
            self.poison.set_panicked(me);
            self.poisonings.add_one();
        }
    }

    /// Returns why the data is in doubt, if it is. A death counts even before a locker
    /// has learned of it.
    pub(in crate::sync) fn doubt(&self) -> Option<PoisonCause> {
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

    /// Poisons, and initialises the pthread mutex anew. Its owner is lost, or has died
    /// and no thread has repaired the data.
    ///
    /// # Safety
    ///
    /// No thread of any process holds the lock or waits for it.
    pub(in crate::sync) unsafe fn reset(&self) -> io::Result<()> {
        self.poison_by_death_of(self.last_holder());
        self.holder.store(0, Ordering::Relaxed);
        // SAFETY: no thread holds it, waits for it or locks it meanwhile, as the caller
        // promises. It stays where it was placed.
        unsafe { self.pthread.init(self.protocol()) }
    }

    /// Initialises a lock anew whose users are all gone, for this namespace.
    ///
    /// # Safety
    ///
    /// As for [`reinit_words`](Self::reinit_words).
    pub(super) unsafe fn reinit(&self, context: InitContext) -> io::Result<()> {
        // SAFETY: as the caller promises, it lies where it will stay, and no thread
        // uses it.
        unsafe { self.reinit_words() }?;
        self.pid_namespace
            .store(context.pid_namespace, Ordering::Release);
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
    pub(super) unsafe fn reinit_words(&self) -> io::Result<()> {
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
}
