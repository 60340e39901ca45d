//! The lock itself, without data: a robust pthread mutex, and the words beside
//! it that make its crashes bearable.
//!
//! # States
//!
//! | pthread mutex | holder | poison | meaning |
//! |---|---|---|---|
//! | free | 0 | 0 | free |
//! | held | 0 | any | just taken, or about to be given back |
//! | held | thread | any | held |
//! | owner died | dead thread or 0 | any | nobody has looked since the death |
//! | any | any | set | the data is in doubt |
//!
//! # Invariants
//!
//! 1. `pid_namespace` is 0 until the pthread mutex is initialised, and never
//!    changes afterwards.
//! 2. pthread is called only by threads of that namespace whose id pthread
//!    knows.
//! 3. A thread never holds more than [`MAX_LOCKS_HELD`].
//! 4. The poison is set *before* the mutex is made consistent, so a crash
//!    between the two leaves the mutex owner-dead, and the next locker does it
//!    over.
//! 5. Only a holder writes `holder`, `poison` and `poisonings`, except for
//!    `clear_poison`.
//!
//! # Memory ordering
//!
//! `holder` and `poison` are ordered by the mutex (5), hence `Relaxed`.
//! `pid_namespace` is stored with `Release` after `pthread_mutex_init` and
//! loaded with `Acquire` before any other call.

use std::convert::Infallible;
use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::poison::{PoisonCount, PoisonWord};
use crate::error::{LockError, PoisonCause};
use crate::os::clock::Deadline;
use crate::os::process::{self, Thread, ThreadId};
use crate::os::pthread::{Outcome, Protocol, PthreadCond, PthreadMutex};
use crate::shm_safe::{Placement, SyncObject};

/// How many locks of this crate a thread can hold at a time.
///
/// When a thread dies, the kernel walks its list of robust locks and gives up
/// after this many (`ROBUST_LIST_LIMIT` in `linux/futex.h`). One lock more
/// would never be recovered, so it is refused:
/// [`LockError::TooManyLocks`](crate::LockError::TooManyLocks).
pub const MAX_LOCKS_HELD: u32 = 2048;

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

/// What [`RawMutex::pid_namespace`] holds until the lock is placed.
const NOT_PLACED: u32 = 0;

/// Proof that the lock was taken, and all that is needed to give it back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Tells a forked child that it was not *this* process that took it.
    epoch: u32,
    /// Whether taking it brought the news that the last holder had died.
    pub(super) found_owner_dead: bool,
}

/// Why the lock was not taken. It never is [`LockError::Poisoned`]: poison is
/// the business of whoever guards data.
pub(super) type Refusal = LockError<Infallible>;

/// The lock. All of it fits one 64-byte cache line and a word where a
/// `pthread_mutex_t` has 40 bytes.
#[repr(C)]
pub(super) struct RawMutex {
    pthread: PthreadMutex,
    /// The holder's [`ThreadId`], or 0.
    holder: AtomicU64,
    pub(super) poison: PoisonWord,
    /// The namespace in which the lock word's thread ids mean something, or
    /// [`NOT_PLACED`].
    pid_namespace: AtomicU32,
    poisonings: PoisonCount,
    /// Read once, when the lock is placed.
    protocol: Protocol,
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
            poisonings: PoisonCount::new(),
            protocol,
            _reserved: 0,
        }
    }

    /// Waits for the lock and takes it.
    #[inline]
    pub(super) fn lock(&self) -> Result<Held, Refusal> {
        // SAFETY: `acquire` calls this on a placed mutex; whoever placed it
        // vouched for the mapping.
        self.acquire(|pthread| unsafe { pthread.lock() })
    }

    /// Takes the lock if it is free.
    #[inline]
    pub(super) fn try_lock(&self) -> Result<Held, Refusal> {
        // SAFETY: as in `lock`.
        self.acquire(|pthread| match unsafe { pthread.try_lock() } {
            // It does not wait, so it can't deadlock: POSIX, std and
            // parking_lot all say "would block" to the holder itself.
            Outcome::Deadlock => Outcome::Busy,
            other => other,
        })
    }

    /// Takes the lock if it becomes free before the deadline.
    pub(super) fn lock_until(&self, deadline: Deadline) -> Result<Held, Refusal> {
        // SAFETY: as in `lock`.
        self.acquire(|pthread| unsafe { pthread.lock_until(deadline) })
    }

    /// Takes the lock in the way that `take` knows.
    #[inline]
    fn acquire(&self, take: impl FnOnce(&PthreadMutex) -> Outcome) -> Result<Held, Refusal> {
        let result = Thread::with(|me| {
            // One comparison finds out both that the lock is placed and that
            // it belongs to our namespace, which is never 0.
            if self.pid_namespace.load(Ordering::Acquire) != me.pid_namespace() {
                return Err(self.why_not_ours());
            }
            if me.locks_held() >= MAX_LOCKS_HELD {
                return Err(LockError::TooManyLocks);
            }
            self.settle(me, take(&self.pthread))
        });
        match result {
            Ok(held) => held,
            Err(identity) => Err(LockError::Unidentified(identity)),
        }
    }

    /// Does what is due after pthread has given the lock, or says why it
    /// has not.
    #[inline]
    fn settle(&self, me: &Thread, outcome: Outcome) -> Result<Held, Refusal> {
        let found_owner_dead = match outcome {
            Outcome::Acquired => false,
            Outcome::OwnerDied => self.inherit()?,
            refused => return Err(Self::refusal(refused)),
        };
        self.holder.store(me.id().to_word(), Ordering::Relaxed);
        me.lock_taken();
        Ok(Held {
            epoch: me.epoch(),
            found_owner_dead,
        })
    }

    /// Takes over from a dead holder, in an order that a further death at any
    /// point leaves repeatable (invariant 4).
    #[cold]
    fn inherit(&self) -> Result<bool, Refusal> {
        let dead = ThreadId::from_word(self.holder.load(Ordering::Relaxed));
        self.poison.set_owner_died(dead);
        self.poisonings.add_one();
        // SAFETY: pthread has just said EOWNERDEAD to this thread.
        unsafe { self.pthread.consistent() }.map_err(LockError::Os)?;
        Ok(true)
    }

    #[cold]
    fn why_not_ours(&self) -> Refusal {
        if self.pid_namespace.load(Ordering::Acquire) == NOT_PLACED {
            LockError::NotPlaced
        } else {
            LockError::ForeignPidNamespace
        }
    }

    #[cold]
    fn refusal(outcome: Outcome) -> Refusal {
        match outcome {
            Outcome::Busy => LockError::WouldBlock,
            Outcome::TimedOut => LockError::TimedOut,
            Outcome::Deadlock => LockError::Deadlock,
            Outcome::NotRecoverable => LockError::NotRecoverable,
            Outcome::Failed(code) => LockError::Os(io::Error::from_raw_os_error(code)),
            Outcome::Acquired | Outcome::OwnerDied => unreachable!("these are not refusals"),
        }
    }

    /// Gives the lock back. Does nothing and says `NotOwner` in a forked
    /// child, which has inherited a copy of the proof but not the lock.
    #[inline]
    pub(super) fn unlock(&self, held: Held) -> Result<(), Refusal> {
        if !process::epoch_is_current(held.epoch) {
            return Err(LockError::NotOwner);
        }
        self.holder.store(0, Ordering::Relaxed);
        // SAFETY: placed, or there would be no `held`.
        match unsafe { self.pthread.unlock() } {
            Ok(()) => {
                process::lock_given_back();
                Ok(())
            }
            Err(_) => Err(LockError::NotOwner),
        }
    }

    /// Waits on a `pthread_cond_t`, which gives the lock back and takes it
    /// again. The second value tells whether the deadline passed.
    ///
    /// # Safety
    ///
    /// `cond` is placed.
    pub(super) unsafe fn wait_on(
        &self,
        cond: &PthreadCond,
        held: Held,
        deadline: Option<Deadline>,
    ) -> Result<(Held, bool), Refusal> {
        if !process::epoch_is_current(held.epoch) {
            return Err(LockError::NotOwner);
        }
        self.holder.store(0, Ordering::Relaxed);
        // SAFETY: the caller promises that `cond` is placed; `held` proves that
        // the mutex is placed and held by this thread.
        let outcome = unsafe { cond.wait(&self.pthread, deadline) };
        process::lock_given_back();
        let (outcome, timed_out) = match outcome {
            Outcome::TimedOut => (Outcome::Acquired, true),
            other => (other, false),
        };
        match Thread::with(|me| self.settle(me, outcome)) {
            Ok(held) => held.map(|held| (held, timed_out)),
            Err(identity) => Err(LockError::Unidentified(identity)),
        }
    }

    /// Marks the data as in doubt because this thread panics. A forked child,
    /// which does not hold the lock, marks nothing.
    #[cold]
    pub(super) fn poison_by_panic(&self, held: Held) {
        if process::epoch_is_current(held.epoch) {
            let me = ThreadId::from_word(self.holder.load(Ordering::Relaxed));
            self.poison.set_panicked(me);
            self.poisonings.add_one();
        }
    }

    /// How often the lock was poisoned: see [`PoisonCount`].
    pub(super) fn poisonings(&self) -> u16 {
        self.poisonings.get()
    }

    /// Whether the holder died and nobody has locked since.
    pub(super) fn owner_died(&self) -> bool {
        self.pthread.owner_died()
    }

    /// Whether nobody holds the lock at this moment.
    pub(super) fn looks_free(&self) -> bool {
        self.pthread.owner_tid() == 0
    }

    /// Whether the lock may be used at all from here.
    pub(super) fn is_placed(&self) -> bool {
        self.pid_namespace.load(Ordering::Acquire) != NOT_PLACED
    }

    pub(super) fn holder(&self) -> Option<Holder> {
        match ThreadId::from_word(self.holder.load(Ordering::Relaxed)) {
            ThreadId::NOBODY => None,
            id => Some(Holder {
                pid: id.pid(),
                tid: id.tid(),
            }),
        }
    }

    /// Why the data is in doubt, if it is. Includes a death that no locker has
    /// come across yet.
    pub(super) fn doubt(&self) -> Option<PoisonCause> {
        self.poison.cause().or_else(|| {
            self.owner_died().then(|| {
                let dead = ThreadId::from_word(self.holder.load(Ordering::Relaxed));
                PoisonCause::OwnerDied {
                    pid: dead.pid(),
                    tid: dead.tid(),
                }
            })
        })
    }

    /// Makes the pthread mutex anew. The poison stays.
    ///
    /// # Safety
    ///
    /// No thread of any process holds the lock or waits for it.
    pub(super) unsafe fn reset(&self) -> io::Result<()> {
        self.holder.store(0, Ordering::Relaxed);
        // SAFETY: the caller promises that it is idle; it stays where it is.
        unsafe { self.pthread.init(self.protocol) }
    }

    /// Brings the lock to life.
    ///
    /// # Safety
    ///
    /// It lies where it will stay, and nobody uses it yet.
    pub(super) unsafe fn place(&self, placement: Placement) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.pthread.init(self.protocol) }?;
        self.pid_namespace
            .store(placement.pid_namespace, Ordering::Release);
        Ok(())
    }

    /// Whether a thread of this process holds the lock.
    pub(super) fn is_held_here(&self) -> bool {
        match self.pthread.owner_tid() {
            0 => false,
            tid => process::is_thread_of_this_process(tid),
        }
    }
}

/// What a walk over a type reports for a mutex.
pub(super) static MUTEX: SyncObject = SyncObject {
    kind: "ShmMutex",
    place: |at, placement| {
        // SAFETY: by the contract of the field, an inert RawMutex lies there.
        let lock = unsafe { &*at.cast::<RawMutex>() };
        // SAFETY: by the same contract, it stays, and nobody uses it yet.
        unsafe { lock.place(placement) }
    },
    is_held_here: |at| {
        // SAFETY: by the contract of the field, a placed RawMutex lies there.
        let lock = unsafe { &*at.cast::<RawMutex>() };
        lock.is_held_here()
    },
};
