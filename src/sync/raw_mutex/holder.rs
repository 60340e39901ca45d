//! The thread that holds the lock, or held it last; and the poison after its death or
//! panic.
//!
//! Only this crate writes `holder`: C code that locks or unlocks the same mutex leaves
//! it as it is. So this crate believes it only if pthread's own words name the same
//! thread.

use std::sync::atomic::Ordering;

use super::{LockToken, RawLockError, RawMutex};
use crate::error::{LockError, PoisonCause};
use crate::os::process::{self, ThreadId, ThreadState};
use crate::os::pthread::LastOwner;
use crate::sync::snapshot::Holder;

impl RawMutex {
    /// Returns whether the thread still holds the lock. A forked child does not: it has
    /// inherited a copy of the proof. Nor does a thread whose C code has unlocked.
    #[cold]
    pub(in crate::sync) fn is_held(&self, held: LockToken) -> bool {
        process::is_current(held.mark)
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
        let consistent = unsafe { self.pthread.consistent(me.owner()) };
        consistent.map_err(|error| {
            // Not known to happen. Unlocking makes the mutex unrecoverable: the caller
            // gets this error, and all others get `NotRecoverable`.
            // SAFETY: placed and so initialised.
            unsafe { self.pthread.unlock_with_libc() };
            LockError::Os(error)
        })
    }

    /// Marks the data as in doubt because this thread panics. A thread that does not
    /// hold the lock marks nothing: see [`is_held`](Self::is_held).
    #[cold]
    pub(in crate::sync) fn poison_by_panic(&self, held: LockToken) {
        if self.is_held(held) {
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
}
