//! `ShmCondvar`: waiting for a change of the data under a `ShmMutex`, without
//! polling, whoever dies.
//!
//! # The protocol
//!
//! The condition variable is a sequence number, of which the top bits are a
//! *generation*, and a count of sleepers.
//!
//! * **notify_one**: add one to the sequence; if the count of sleepers is not zero,
//!   wake one of those who sleep on the sequence word in its generation.
//! * **notify_all**: the same, but also begin a new generation, and wake one sleeper
//!   of the older ones.
//! * **wait**: read the sequence under the mutex; give the mutex back; spin
//!   briefly, then sleep in the kernel for as long as the sequence is what it
//!   was. If a new generation has begun since, wake one more sleeper of the older
//!   ones. Take the mutex again.
//!
//! So `notify_all` starts a chain: each that wakes calls the next one, before it
//! competes for the mutex. No herd comes running for a mutex that only one can
//! have, and he who notifies pays for one wakeup. A generation is a group of the
//! kernel's queue (a bit of `FUTEX_WAIT_BITSET`), so the chain does not catch those
//! who have come back to wait again, and they need not pass it on; nor is a
//! `notify_one` spent on somebody whom a `notify_all` has called already.
//!
//! No lost wakeup among the living: a waiter reads the sequence before it gives
//! the mutex back, so a notification that follows a change made under the mutex
//! changes the sequence after that read, and the kernel refuses to sleep on a
//! changed word, or has queued the sleeper and wakes it. That a notifier may
//! skip the system call is the store-buffer pattern: the waiter adds itself to
//! `waiters` and then the kernel reads `sequence`; the notifier adds to
//! `sequence` and then reads `waiters`. The notifier's two are sequentially
//! consistent; between the waiter's two stands the full barrier that the kernel
//! has before it reads a futex word (barrier A in `kernel/futex`). So at least
//! one sees the other.
//!
//! # The crash argument
//!
//! There is no lock inside, so no death can leave one locked. What a death
//! *can* leave behind:
//!
//! | who dies where | what is left | who heals it |
//! |---|---|---|
//! | waiter, asleep or awake | `waiters` one too high | nobody need: a notifier makes one system call in vain |
//! | notifier, before the sequence | no notification | the mutex, if it was held: see the last row |
//! | notifier, between sequence and wake | sleepers not woken | the sleepers' heartbeat: the sequence differs |
//! | woken waiter, before it has called the next one or has the mutex | its notification is swallowed | the other sleepers' heartbeat: the sequence differs |
//! | holder of the mutex, all others asleep here | nobody touches the lock | the sleepers' heartbeat: the lock word says that its owner died |
//!
//! The heartbeat: every sleeper wakes by itself at each multiple of
//! [`HEARTBEAT`] on the monotonic clock and looks at three words without any lock:
//! is the sequence still what it was, is the mutex's owner alive, has the mutex
//! not been poisoned since? If so it sleeps on. If not it returns, which at
//! worst is one spurious wakeup. So a notification can be swallowed for one
//! period at most, also where the one who is to pass it on is stopped, or gets no
//! processor. Whoever first learns of an owner's death tells all the others at
//! once.

use std::fmt;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::mutex::ShmMutexGuard;
use super::raw_mutex::{LockToken, RawLockError, RawMutex};
use super::state::CondvarState;
use super::wait::{self, Wait, WaitTimeoutLockResult, WaitTimeoutResult};
use crate::error::{LockError, LockResult};
use crate::os::clock::Deadline;
use crate::os::futex::{self, Bitset, FutexWait};
use crate::robust::spin;
use crate::shm_safe::Fingerprint;
use crate::shm_safe::TypeProperties;
use crate::shm_safe::{FieldPath, ShmSafe, SyncKind, SyncOps, Visitor};

/// How often a sleeper looks around by itself. Swallowed notifications and dead
/// owners are noticed within this time. The multiples are the same for every
/// process of the machine, so that their timers expire together and cost the
/// processor one wakeup.
const HEARTBEAT: Duration = Duration::from_millis(150);

/// A condition variable for shared memory: [`std::sync::Condvar`]'s methods,
/// for processes.
///
/// Waiters sleep on a futex; `pthread_cond_t` could not survive its users (see
/// [`PthreadCondvar`](crate::PthreadCondvar)).
///
/// As always with condition variables, a waiter may wake without reason, so
/// wait in a loop or use [`wait_while`](Self::wait_while). Notify while
/// holding the mutex under which the condition was changed: if the notifier
/// dies in between, the waiters learn of its death as the mutex's holder.
///
/// ```
/// use shm_sync::{Segment, ShmCondvar, ShmMutex, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Jobs {
///     pending: ShmMutex<u64>,
///     changed: ShmCondvar,
/// }
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let jobs = Segment::anonymous(Jobs {
///     pending: ShmMutex::new(0),
///     changed: ShmCondvar::new(),
/// })?;
///
/// std::thread::scope(|s| {
///     s.spawn(|| -> Result<(), shm_sync::Error> {
///         let mut pending = jobs.pending.lock()?;
///         *pending += 1;
///         jobs.changed.notify_one();
///         Ok(())
///     });
///     let pending = jobs.changed.wait_while(jobs.pending.lock()?, |n| *n == 0)?;
///     assert_eq!(*pending, 1);
///     Ok(())
/// })
/// # }
/// ```
///
/// # Crash behaviour
///
/// Any waiter and any notifier may be killed at any instruction. Notifiers
/// never block on the dead. If a woken waiter dies before it acts, another one
/// wakes within 250 ms; if the holder of the mutex dies, every waiter learns
/// within 250 ms ([`LockError::Poisoned`]). A large timer slack of a thread
/// (`PR_SET_TIMERSLACK`, systemd's `TimerSlackNSec=`) does not change that. Only a sleep
/// that begins within 150 ms after the slack has grown may last longer by the slack.
///
/// # Forks
///
/// A forked child may wait and notify like any process, with a guard of its
/// own.
#[repr(C)]
pub struct ShmCondvar {
    /// A [`Sequence`].
    sequence: AtomicU32,
    /// How many waiters sleep, or are about to; never too few. Every waiter
    /// that dies asleep leaves it one too high.
    waiters: AtomicU32,
}

const _: () = {
    assert!(offset_of!(ShmCondvar, sequence) == 0);
    assert!(size_of::<ShmCondvar>() <= 64);
};

// SAFETY: repr(C) over two atomic words, which mean the same to every process and
// may hold any bytes; reported at offset 0.
unsafe impl ShmSafe for ShmCondvar {
    const FINGERPRINT: Fingerprint =
        Fingerprint::of("ShmCondvar", size_of::<Self>(), align_of::<Self>());
    const SYNC_OBJECTS: usize = 1;
    const PROPERTIES: TypeProperties = TypeProperties::POD.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, report: &mut Visitor<'_>) {
        report(at, &CONDVAR);
    }
}

static CONDVAR: SyncOps = SyncOps {
    kind: SyncKind::Condvar,
    size: size_of::<ShmCondvar>(),
    init_zeroed: |at| {
        // SAFETY: by the contract of the field, the bytes are for a ShmCondvar.
        unsafe { at.cast::<ShmCondvar>().write(ShmCondvar::new()) };
    },
    // It works wherever it lies, from its first byte on.
    init: |_, _| Ok(()),
    reinit: |at, _| {
        // SAFETY: by the contract of the field, a ShmCondvar lies there; it
        // consists of atomic words, so whatever they hold is valid.
        let this = unsafe { &*at.cast::<ShmCondvar>() };
        // Relaxed: nobody uses it.
        this.waiters.store(0, Ordering::Relaxed);
        Ok(())
    },
    is_held_by_this_process: |_| false,
};

/// How many notifications there were, in the low 27 bits, and above them in which
/// generation of sleepers this is. Both wrap around.
///
/// To come back to what a sleeper has seen it takes over a hundred million
/// notifications between two heartbeats, one each nanosecond. If the number of
/// notifications overflows into the generation, that is a `notify_all` that nobody
/// asked for. And should 32 generations pass before a sleeper of the first is called,
/// it wakes by its heartbeat.
#[derive(Clone, Copy, Debug)]
struct Sequence(u32);

impl Sequence {
    const NOTIFICATION_BITS: u32 = 27;
    const ONE: u32 = 1;
    const NEW_GENERATION: u32 = 1 << Self::NOTIFICATION_BITS | Self::ONE;

    #[inline]
    fn generation(self) -> Bitset {
        Bitset::one(self.0 >> Self::NOTIFICATION_BITS)
    }

    fn notifications(self) -> u32 {
        self.0 & ((1 << Self::NOTIFICATION_BITS) - 1)
    }
}

/// Why a sleep ended.
enum Slept {
    /// There is reason to look at the condition again.
    Notified,
    /// The caller's deadline passed.
    TimedOut,
}

impl ShmCondvar {
    /// A condition variable that nobody waits for.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sequence: AtomicU32::new(0),
            waiters: AtomicU32::new(0),
        }
    }

    /// Gives the mutex back, waits for a notification, and takes it again.
    ///
    /// Returns without a notification now and then: check the condition.
    ///
    /// # Errors
    ///
    /// * [`LockError::Poisoned`]: the mutex is held, its data is in doubt.
    /// * [`LockError::NotOwner`]: the guard came over a fork, or C code has unlocked it.
    /// * [`LockError::TooManyLocks`]: C code took more locks in this thread during or
    ///   before the wait than the kernel recovers. The mutex is not held.
    /// * [`LockError::NotRecoverable`], [`LockError::Os`]: the mutex is not
    ///   held; see there.
    pub fn wait<'a, T: ShmSafe>(
        &self,
        guard: ShmMutexGuard<'a, T>,
    ) -> LockResult<ShmMutexGuard<'a, T>> {
        wait::wait(self, guard)
    }

    /// Waits for as long as `condition` is true.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait). If the mutex is poisoned while this waits, the
    /// wait ends with the poison, whatever the condition says. To repair and
    /// wait on, write the loop:
    ///
    /// ```
    /// # use shm_sync::*;
    /// # fn wait_for_work(pending: &ShmMutex<u64>, changed: &ShmCondvar) -> Result<(), Error> {
    /// /// One place for repairs, wherever the bad news came from.
    /// fn repaired(
    ///     result: LockResult<ShmMutexGuard<'_, u64>>,
    /// ) -> Result<ShmMutexGuard<'_, u64>, Error> {
    ///     match result {
    ///         Err(LockError::Poisoned(p)) => Ok(p.recover(|pending| *pending = 0)),
    ///         other => Ok(other?),
    ///     }
    /// }
    ///
    /// let mut guard = repaired(pending.lock())?;
    /// while *guard == 0 {
    ///     guard = repaired(changed.wait(guard))?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_while<'a, T: ShmSafe>(
        &self,
        guard: ShmMutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<ShmMutexGuard<'a, T>> {
        wait::wait_while(self, guard, condition)
    }

    /// Waits for a notification, but no longer than `timeout`. The time to get
    /// the mutex back comes on top.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait). A timeout is not an error: see
    /// [`WaitTimeoutResult::timed_out`].
    pub fn wait_timeout<'a, T: ShmSafe>(
        &self,
        guard: ShmMutexGuard<'a, T>,
        timeout: Duration,
    ) -> WaitTimeoutLockResult<'a, T> {
        wait::wait_timeout(self, guard, timeout)
    }

    /// Waits for as long as `condition` is true, but no longer than `timeout`
    /// altogether. `timed_out()` then tells that the condition is still true.
    ///
    /// # Errors
    ///
    /// As [`wait_while`](Self::wait_while).
    pub fn wait_timeout_while<'a, T: ShmSafe>(
        &self,
        guard: ShmMutexGuard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> WaitTimeoutLockResult<'a, T> {
        wait::wait_timeout_while(self, guard, timeout, condition)
    }

    /// Sleeps until the sequence is no longer `seen`, the deadline passes, or a
    /// heartbeat finds `trouble`. Then calls the next one, if all are called.
    fn sleep(
        &self,
        seen: Sequence,
        deadline: Option<Deadline>,
        trouble: impl Fn() -> bool,
    ) -> Result<Slept, RawLockError> {
        // The kernel's barrier comes before its read of the sequence: see above.
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let slept = loop {
            let heartbeat = Deadline::next_multiple_of(HEARTBEAT);
            let until = deadline.map_or(heartbeat, |deadline| deadline.min(heartbeat));
            match futex::wait_bitset(&self.sequence, seen.0, seen.generation(), Some(until)) {
                Ok(FutexWait::Woken) => break Ok(Slept::Notified),
                Ok(FutexWait::TimedOut) => {}
                Err(error) => break Err(LockError::Os(error)),
            }
            // Whether the sequence has changed, the kernel sees as this goes back to
            // sleep.
            if trouble() {
                break Ok(Slept::Notified);
            }
            if deadline.is_some_and(Deadline::has_passed) {
                break Ok(Slept::TimedOut);
            }
        };
        // Relaxed: too high for a moment harms nobody.
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        // Whoever was woken comes after the notifier, because the kernel's queue
        // has a lock. Whoever was not, has no call to pass on.
        let now = self.sequence();
        if now.generation() != seen.generation() {
            self.wake_one_of(now.generation().others());
        }
        slept
    }

    /// Wakes one waiter, if there is any. Never blocks.
    ///
    /// Waiters that have not fallen asleep yet may notice as well.
    #[inline]
    pub fn notify_one(&self) {
        let before = self.add(Sequence::ONE);
        self.wake_one_of(before.generation());
    }

    /// Wakes all waiters. Never blocks.
    ///
    /// They are woken one after the other, each by the one before it, so that they do
    /// not all come for the mutex at once. One that does not get on, because it is
    /// killed at this moment, or stopped, delays those behind it by 150 ms at most.
    #[inline]
    pub fn notify_all(&self) {
        let before = self.add(Sequence::NEW_GENERATION);
        let now = Sequence(before.0.wrapping_add(Sequence::NEW_GENERATION));
        self.wake_one_of(now.generation().others());
    }

    /// Adds to the sequence, and says what it was.
    #[inline]
    fn add(&self, step: u32) -> Sequence {
        // SeqCst: see above.
        Sequence(self.sequence.fetch_add(step, Ordering::SeqCst))
    }

    #[inline]
    fn wake_one_of(&self, generations: Bitset) {
        // SeqCst: see above.
        if self.waiters.load(Ordering::SeqCst) != 0 {
            futex::wake_bitset(&self.sequence, generations);
        }
    }

    /// Relaxed: each use says why that is enough.
    #[inline]
    fn sequence(&self) -> Sequence {
        Sequence(self.sequence.load(Ordering::Relaxed))
    }

    /// What the words say, whatever they are.
    pub(super) fn state(&self) -> CondvarState {
        CondvarState {
            notifications: self.sequence().notifications(),
            sleepers: self.waiters.load(Ordering::Relaxed),
        }
    }
}

impl Wait for ShmCondvar {
    fn wait_raw(
        &self,
        mutex: &RawMutex,
        held: LockToken,
        deadline: Option<Deadline>,
    ) -> Result<(LockToken, WaitTimeoutResult), RawLockError> {
        // Both are read under the mutex: whatever changes after it is given
        // back changes them. Relaxed, because the mutex orders it.
        let seen = self.sequence();
        let poisonings = mutex.poison_epoch();
        let Some(lent) = mutex.unlock_for_wait(held) else {
            return Err(LockError::NotOwner);
        };

        let notified = || self.sequence().0 != seen.0;
        let slept = if spin::spin_until(notified) {
            Slept::Notified
        } else {
            self.sleep(seen, deadline, || {
                mutex.owner_died() || mutex.poison_epoch() != poisonings
            })?
        };

        let (held, owner_died) = mutex.relock(lent)?;
        if owner_died {
            self.notify_all();
        }
        let timed_out = matches!(slept, Slept::TimedOut);
        Ok((held, WaitTimeoutResult { timed_out }))
    }
}

impl Default for ShmCondvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ShmCondvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShmCondvar").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm_safe::InitContext;

    #[test]
    fn reviving_forgets_the_sleepers_and_not_the_sequence() {
        let mut condvar = ShmCondvar {
            sequence: AtomicU32::new(7),
            waiters: AtomicU32::new(3),
        };
        let at = (&raw mut condvar).cast();
        let placement = InitContext { pid_namespace: 1 };
        // SAFETY: the object is this test's own and does not move meanwhile.
        unsafe { (CONDVAR.reinit)(at, placement) }.expect("it can't fail");
        assert_eq!(*condvar.sequence.get_mut(), 7);
        assert_eq!(*condvar.waiters.get_mut(), 0);
        // SAFETY: the object is this test's own.
        unsafe { (CONDVAR.init_zeroed)((&raw mut condvar).cast()) };
        assert_eq!(*condvar.sequence.get_mut(), 0);
    }
}
