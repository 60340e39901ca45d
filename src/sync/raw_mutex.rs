//! The lock itself, without data: a robust pthread mutex, and the words beside
//! it that make its crashes bearable.
//!
//! # States
//!
//! | pthread mutex | holder | poison | meaning |
//! |---|---|---|---|
//! | free | 0 | 0 | free |
//! | held | 0, or another thread | any | just taken, or about to be given back, or held by C code |
//! | held | thread | any | held |
//! | owner died | dead thread, or as above | any | no thread has locked it since the death |
//! | any | any | set | the data is in doubt |
//!
//! # Invariants
//!
//! 1. `pid_namespace` is `NOT_PLACED` until the pthread mutex is initialised, and
//!    changes afterwards only when nobody is left who used it (`revive`).
//! 2. pthread is called only by threads of that namespace whose id pthread
//!    knows.
//! 3. No lock is taken by a thread that holds [`MAX_LOCKS_HELD`], those of C code and of
//!    other copies of this crate included.
//! 4. The poison is set *before* the mutex is made consistent, so a crash
//!    between the two leaves the mutex owner-dead, and the next locker does it
//!    over.
//! 5. `holder` is believed only if pthread's words name the same thread: C code does not
//!    write it. Only a holder writes `holder`, `poison` and `poisonings`. (`clear_poison`
//!    does not wait for the lock; `reset` and `revive` have the lock to themselves.)
//! 6. Every field is valid whatever its bytes are: a file may be anybody's.
//!
//! # Memory ordering
//!
//! `holder` and `poison` are ordered by the mutex (5), hence `Relaxed`.
//! `pid_namespace` is stored with `Release` after `pthread_mutex_init` and
//! loaded with `Acquire` before any other call.

mod holder;
mod lent;
mod on_cond;

pub use holder::Holder;

use std::convert::Infallible;
use std::io;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::poison::{PoisonCount, PoisonWord};
use super::state::{LockState, MutexState, Waiters};
use crate::error::LockError;
use crate::os::lineage;
use crate::os::process::{self, Mark, Thread};
use crate::os::pthread::{Entry, MAX_ROBUST_LOCKS, Outcome, Patience, Protocol, PthreadMutex};
use crate::shm_safe::{Placement, SyncKind, SyncObject};

/// How many robust locks a thread can hold at a time.
///
/// When a thread dies, the kernel walks its list of robust locks, the youngest first,
/// and gives up after this many (`ROBUST_LIST_LIMIT` in `linux/futex.h`). With one lock
/// more, the oldest would never be recovered, so it is refused:
/// [`LockError::TooManyLocks`](crate::LockError::TooManyLocks).
///
/// All robust locks of the thread count, also those that C code or another copy of this
/// crate in the same process has taken. While other code holds some, a lock may cost a
/// walk over all that the thread holds (some nanoseconds for each).
///
/// If C code takes more locks *after* ours than the kernel recovers, nothing refuses
/// them, and our oldest locks are lost when the thread dies.
pub const MAX_LOCKS_HELD: u32 = MAX_ROBUST_LOCKS;

/// What [`RawMutex::pid_namespace`] holds until the lock is placed: neither a
/// namespace, nor the 0 by which a thread does not know its own.
const NOT_PLACED: u32 = u32::MAX;

/// Proof that the lock was taken, and all that is needed to give it back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Tells a forked child that it was not *this* process that took it.
    mark: Mark,
}

/// Why the lock was not taken. It never is [`LockError::Poisoned`]: poison is
/// the business of whoever guards data.
pub(super) type Refusal = LockError<Infallible>;

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
    poisonings: PoisonCount,
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
            poisonings: PoisonCount::new(),
            protocol: AtomicU8::new(protocol as u8),
            _reserved: 0,
        }
    }

    /// Takes the lock if it is free and nothing out of the ordinary comes up. If
    /// something does, [`acquire_slowly`](Self::acquire_slowly) knows what it is.
    #[inline]
    pub(super) fn take_if_free(&self, patience: Patience) -> Option<Held> {
        Thread::with_unchecked(|me| {
            // One comparison finds out that the lock is placed, that it belongs
            // to our namespace, and that the thread knows itself: no lock ever
            // has namespace 0.
            let ours = self.pid_namespace.load(Ordering::Acquire) == me.pid_namespace();
            if !ours {
                return None;
            }
            // Who doesn't wait may come often. Reading first spares the holder a write
            // to its cache line.
            if matches!(patience, Patience::None) && !self.looks_free() {
                return None;
            }
            let list = self.pthread.list_of(me.locker())?;
            if !me.has_room_above(list.first()) {
                return None;
            }
            // SAFETY: the lock is placed; whoever placed it vouched for the
            // mapping. The list is this thread's.
            let taken = unsafe { self.pthread.take_if_free(list) };
            taken.then(|| self.taken_by(me, list.first()))
        })
    }

    /// Waits for the lock as long as `patience` says, and takes it. The second value
    /// tells whether that brought the news of the last holder's death.
    #[cold]
    pub(super) fn acquire_slowly(&self, patience: Patience) -> Result<(Held, bool), Refusal> {
        Thread::with(|me| {
            let me = me?;
            self.check_ready(me)?;
            // SAFETY: as in `take_if_free`.
            let outcome = unsafe { self.pthread.acquire(me.locker(), patience) };
            let by_libc = self.pthread.needs_libc(me.locker());
            self.settle(me, outcome, by_libc)
        })
    }

    fn check_ready(&self, me: &Thread) -> Result<(), Refusal> {
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

    /// Makes a lock in private memory this process's own, if it came over a fork.
    #[cold]
    fn adopt(&self) -> io::Result<()> {
        lineage::adopt(&self.pid_namespace, || {
            // SAFETY: it lies where it will stay. Memory of this process alone, and no
            // thread of this process holds it, waits for it or uses it otherwise: each
            // comes here first, and is kept waiting by `adopt`. Guards that came over
            // the fork do nothing.
            unsafe { self.renew() }
        })
    }

    /// Does what is due after pthread has answered. `by_libc`: it was libc that did.
    fn settle(
        &self,
        me: &Thread,
        outcome: Outcome,
        by_libc: bool,
    ) -> Result<(Held, bool), Refusal> {
        let owner_died = outcome == Outcome::OwnerDied;
        match outcome {
            Outcome::Acquired => {}
            Outcome::OwnerDied => self.inherit(me, by_libc)?,
            Outcome::Busy => return Err(LockError::WouldBlock),
            Outcome::TimedOut => return Err(LockError::TimedOut),
            Outcome::Deadlock => return Err(LockError::Deadlock),
            Outcome::NotRecoverable => return Err(LockError::NotRecoverable),
            Outcome::Failed(code) => {
                return Err(LockError::Os(io::Error::from_raw_os_error(code)));
            }
        }
        Ok((self.taken_by(me, me.locker().first_held()), owner_died))
    }

    /// `first` is the first entry of the thread's robust list, which is this lock.
    #[inline]
    fn taken_by(&self, me: &Thread, first: Entry) -> Held {
        self.holder.store(me.id().to_word(), Ordering::Relaxed);
        me.lock_taken(first);
        Held { mark: me.mark() }
    }

    /// Gives the lock back. Does nothing and says `false` in a forked child, which
    /// has inherited a copy of the proof but not the lock, and where C code has given
    /// it back.
    #[inline]
    pub(super) fn unlock(&self, held: Held) -> bool {
        if !process::is_ours(held.mark) {
            return false;
        }
        Thread::with_unchecked(|me| {
            // Only if this thread holds it: if not, `holder` is another's. While the lock
            // word names this thread, only this thread changes that.
            let nameless = || self.holder.store(0, Ordering::Relaxed);
            let unlocked = match self.pthread.list_of(me.locker()) {
                // SAFETY: placed, or there would be no `held`. The list is this
                // thread's.
                Some(list) => unsafe { self.pthread.give_back_after(list, nameless) },
                None => return self.unlock_slowly(me),
            };
            match unlocked {
                Some(was) => me.lock_given_back(was),
                None => me.lock_gone(),
            }
            unlocked.is_some()
        })
    }

    /// Gives back a lock with priority inheritance, or by libc.
    #[cold]
    fn unlock_slowly(&self, me: &Thread) -> bool {
        if !self.pthread.is_held_by(me.locker()) {
            me.lock_gone();
            return false;
        }
        self.holder.store(0, Ordering::Relaxed);
        let was = match self.pthread.inheriting_list_of(me.locker()) {
            // SAFETY: placed, as in `unlock`. The list is this thread's.
            Some(list) => unsafe { self.pthread.unlock_inheriting(list) },
            None => {
                // SAFETY: placed, as in `unlock`, and held by this thread.
                unsafe { self.pthread.unlock_by_libc() };
                None
            }
        };
        match was {
            Some(was) => me.lock_given_back(was),
            None => me.lock_gone(),
        }
        true
    }

    /// How many times the lock was poisoned: see [`PoisonCount`].
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

    /// What the words of a copy say, whatever they are.
    pub(super) fn state(&self) -> MutexState {
        let lock = match self.pthread.owner_tid() {
            _ if !self.is_placed() => LockState::NotPlaced,
            _ if self.owner_died() => LockState::OwnerDied,
            0 if self.pthread.is_unrecoverable() => LockState::NotRecoverable,
            0 => LockState::Free,
            tid => LockState::Held { tid },
        };
        MutexState {
            lock,
            holder: self.holder(),
            poison: match lock {
                LockState::OwnerDied => self.doubt(),
                _ => self.poison.cause(),
            },
            poisonings: self.poisonings(),
            waiters: match self.pthread.has_waiters() {
                true => Waiters::Some,
                false => Waiters::NoneSeen,
            },
            pid_namespace: self.pid_namespace.load(Ordering::Acquire),
        }
    }

    /// Makes the pthread mutex anew, and poisons: that it was not recoverable
    /// means that its owner died and nobody repaired the data.
    ///
    /// # Safety
    ///
    /// No thread of any process holds the lock or waits for it.
    pub(super) unsafe fn reset(&self) -> io::Result<()> {
        self.poison_by_death_of(self.last_holder());
        self.holder.store(0, Ordering::Relaxed);
        // SAFETY: the caller promises that it is idle; it stays where it is.
        unsafe { self.pthread.init(self.protocol()) }
    }

    fn protocol(&self) -> Protocol {
        const INHERIT: u8 = Protocol::Inherit as u8;
        match self.protocol.load(Ordering::Relaxed) {
            INHERIT => Protocol::Inherit,
            // Of a byte that is no protocol nothing is asked.
            _ => Protocol::None,
        }
    }

    /// Makes a lock usable whose users are all gone.
    ///
    /// # Safety
    ///
    /// As for [`renew`](Self::renew).
    unsafe fn revive(&self, placement: Placement) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.renew() }?;
        self.pid_namespace
            .store(placement.pid_namespace, Ordering::Release);
        Ok(())
    }

    /// Makes a lock free whose users are all gone, and poisons it if one of them held
    /// it. The poison comes first, so that a death at any point leaves this repeatable.
    ///
    /// # Safety
    ///
    /// It lies where it will stay. No thread that is alive holds it, waits for it
    /// or otherwise uses it, at this place.
    unsafe fn renew(&self) -> io::Result<()> {
        let was_held =
            !self.looks_free() || self.owner_died() || self.holder.load(Ordering::Relaxed) != 0;
        if was_held && self.poison.cause().is_none() {
            self.poison_by_death_of(self.last_holder());
        }
        self.holder.store(0, Ordering::Relaxed);
        // SAFETY: it lies where it will stay, and no thread uses it, as the caller
        // promises.
        unsafe { self.pthread.init(self.protocol()) }
    }

    /// Brings the lock to life.
    ///
    /// # Safety
    ///
    /// It lies where it will stay, and nobody uses it yet, or any more.
    pub(super) unsafe fn place(&self, placement: Placement) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.pthread.init(self.protocol()) }?;
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
    kind: SyncKind::Mutex,
    size: size_of::<RawMutex>(),
    make_inert: |at| {
        // SAFETY: by the contract of the field, the bytes are for a RawMutex.
        unsafe { at.cast::<RawMutex>().write(RawMutex::new(Protocol::None)) };
    },
    place: |at, placement| {
        // SAFETY: by the contract of the field, an inert RawMutex lies there.
        let lock = unsafe { &*at.cast::<RawMutex>() };
        // SAFETY: by the same contract, it stays, and nobody uses it yet.
        unsafe { lock.place(placement) }
    },
    revive: |at, placement| {
        // SAFETY: by the contract of the field, a RawMutex lies there, of which
        // any bytes are valid.
        let lock = unsafe { &*at.cast::<RawMutex>() };
        // SAFETY: by the same contract, it stays, and nobody uses it.
        unsafe { lock.revive(placement) }
    },
    is_held_here: |at| {
        // SAFETY: by the contract of the field, a placed RawMutex lies there.
        let lock = unsafe { &*at.cast::<RawMutex>() };
        lock.is_held_here()
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::PoisonCause;
    use crate::os::process::ThreadId;

    /// `FUTEX_OWNER_DIED`
    const OWNER_DIED: u32 = 0x4000_0000;

    fn placement() -> Placement {
        let pid_namespace = process::pid_namespace().expect("/proc is mounted");
        Placement { pid_namespace }
    }

    fn placed(protocol: Protocol) -> Box<RawMutex> {
        let lock = Box::new(RawMutex::new(protocol));
        // SAFETY: it stays in its box, and nobody uses it yet.
        unsafe { lock.place(placement()) }.expect("pthread makes it");
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
        unsafe { (MUTEX.revive)(at, placement()) }.expect("pthread makes it");
        assert_eq!(lock.holder(), None);
        assert!(lock.looks_free() && !lock.owner_died());
        let (held, owner_died) = lock.acquire_slowly(Patience::Forever).expect("it is free");
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
        unsafe { (MUTEX.make_inert)(at) };
        // SAFETY: just written.
        let lock = unsafe { zeros.assume_init_mut() };
        assert!(!lock.is_placed());
        assert!(matches!(
            lock.acquire_slowly(Patience::Forever),
            Err(LockError::NotPlaced)
        ));
        assert_eq!(revived(lock), None);
    }

    #[test]
    fn reviving_what_was_free_poisons_nothing() {
        assert_eq!(revived(&mut placed(Protocol::None)), None);

        let mut lock = placed(Protocol::Inherit);
        // Of another boot.
        lock.pid_namespace.store(NOT_PLACED - 1, Ordering::Relaxed);
        assert!(matches!(
            lock.acquire_slowly(Patience::Forever),
            Err(LockError::ForeignPidNamespace)
        ));
        assert_eq!(lock.protocol(), Protocol::Inherit);
        assert_eq!(revived(&mut lock), None);
    }

    #[test]
    fn reviving_what_was_held_names_the_holder() {
        let lock = placed(Protocol::None);
        let (held, _) = lock.acquire_slowly(Patience::Forever).expect("it is free");
        let Holder { pid, tid } = lock.holder().expect("this thread holds it");
        let mut copy = copy_of(&lock);
        let poisonings = copy.poisonings();
        assert_eq!(
            revived(&mut copy),
            Some(PoisonCause::OwnerDied { pid, tid })
        );
        assert_eq!(lock.poisonings(), poisonings, "the original stays as it is");

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
