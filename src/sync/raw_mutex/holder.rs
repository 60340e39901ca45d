//! The thread that holds the lock, or held it last; and the poison after its death or panic.
//!
//! `holder` is ours alone: C code that locks or unlocks the same mutex leaves it as it is.
//! So it is believed only where pthread's own words name the same thread.

use std::sync::atomic::Ordering;

use super::{Held, RawMutex, Refusal};
use crate::error::{LockError, PoisonCause};
use crate::os::process::{self, Thread, ThreadId};
use crate::os::pthread::LastOwner;

/// Who holds a lock: a snapshot, for people and logs.
///
/// By the time it is looked at it may be history. It is no proof that the
/// process is alive, nor that its id has not been given to another.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    /// The process id.
    pub pid: u32,
    /// The thread id.
    pub tid: u32,
}

impl RawMutex {
    /// Whether the proof still holds: not in a forked child, which has inherited a copy
    /// of it but not the lock, and not where C code has given the lock back.
    #[cold]
    pub(in crate::sync) fn is_held(&self, held: Held) -> bool {
        process::is_ours(held.mark)
            && Thread::with_unchecked(|me| self.pthread.is_held_by(me.locker()))
    }

    /// The holder, or the one that died with the lock, if it has left its name.
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

    /// Marks the data as in doubt because that thread died.
    pub(super) fn poison_by_death_of(&self, dead: ThreadId) {
        self.poison.set_owner_died(dead);
        self.poisonings.add_one();
    }

    /// The thread that `holder` names. After C code has unlocked or locked, that may be
    /// another than the one that holds the lock, or held it last.
    fn named(&self) -> ThreadId {
        ThreadId::from_word(self.holder.load(Ordering::Relaxed))
    }

    /// The thread that holds the lock, or died with it. `holder` is believed if pthread
    /// names the same thread. If not, C code has locked it, or it has just been taken:
    /// then the process is unknown. Thread ids are used again, so an old name can agree
    /// by chance.
    pub(super) fn last_holder(&self) -> ThreadId {
        let named = self.named();
        match self.pthread.last_owner() {
            LastOwner::Thread(tid) if tid == named.tid() => named,
            LastOwner::Thread(tid) => ThreadId::new(0, tid),
            LastOwner::Inconsistent | LastOwner::NoThread => ThreadId::NOBODY,
        }
    }

    /// Takes over from a dead holder, in an order that a further death at any
    /// point leaves repeatable (invariant 4).
    #[cold]
    pub(super) fn inherit(&self, me: &Thread, by_libc: bool) -> Result<(), Refusal> {
        self.poison_by_death_of(match self.pthread.last_owner() {
            // libc has replaced what would tell whether the name is the dead one's.
            LastOwner::Inconsistent if by_libc => self.named(),
            _ => self.last_holder(),
        });
        // SAFETY: pthread has just said EOWNERDEAD to this thread.
        let consistent = unsafe { self.pthread.consistent(me.locker()) };
        consistent.map_err(|error| {
            // Not known to happen. The caller is told that it has no lock, and all others
            // that there is none any more.
            // SAFETY: placed.
            unsafe { self.pthread.unlock_by_libc() };
            LockError::Os(error)
        })
    }

    /// Marks the data as in doubt because this thread panics. A thread that does not
    /// hold the lock marks nothing: see [`is_held`](Self::is_held).
    #[cold]
    pub(in crate::sync) fn poison_by_panic(&self, held: Held) {
        if self.is_held(held) {
            let me = Thread::with_unchecked(Thread::id);
            self.poison.set_panicked(me);
            self.poisonings.add_one();
        }
    }

    /// Why the data is in doubt, if it is. Includes a death that no locker has
    /// come across yet.
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
