//! `ShmCondvar`: waits for a change of the data under a `ShmMutex`, without polling,
//! and survives the death of any process.
//!
//! # The protocol
//!
//! The condition variable is a sequence number, whose top bits are a *generation*, and
//! a count of waiters.
//!
//! * **notify_one** adds one to the sequence. If there are waiters, it wakes one that
//!   waits on the sequence word in the current generation.
//! * **notify_all** adds one and begins a new generation. If there are waiters, it
//!   wakes one of the older generations.
//! * **wait** reads the sequence under the mutex, unlocks the mutex, spins briefly, and
//!   then waits in the kernel while the sequence is unchanged. If a new generation has
//!   begun since, it wakes one more waiter of the older generations. Then it locks the
//!   mutex again.
//!
//! `notify_all` wakes one waiter. Each woken waiter wakes the next before it locks the
//! mutex. This avoids a thundering herd: the notifier makes one wake-up call, and the
//! mutex is contended by one waiter at a time.
//!
//! A generation is a bit of the kernel's futex bitset (`FUTEX_WAIT_BITSET`). A thread
//! that waits again is in the new generation, so the chain skips it. `notify_one` skips
//! waiters that a `notify_all` has already notified.
//!
//! # Memory ordering
//!
//! As long as no process dies, no wake-up is lost. The waiter reads the sequence before
//! it unlocks the mutex. So a notification that follows a change under the mutex
//! changes the sequence after that read. Then the kernel either refuses to wait on the
//! changed word, or has queued the waiter and wakes it.
//!
//! A notifier may skip the system call if there are no waiters. This is the
//! store-buffer pattern, and at least one side must see the other:
//!
//! | | first | ordered by | then |
//! |---|---|---|---|
//! | waiter | adds itself to `waiters` | the full barrier of the kernel before it reads a futex word (barrier A in `kernel/futex`) | the kernel reads `sequence` |
//! | notifier | adds to `sequence` | `SeqCst` | reads `waiters` |
//!
//! # The crash argument
//!
//! There is no lock inside, so no death can leave one locked. A death can leave this:
//!
//! | death of | what is left | what repairs it |
//! |---|---|---|
//! | waiter, at any point of the wait | `waiters` one too high | nothing needs to: a notifier makes one system call in vain |
//! | notifier, before the sequence | no notification | the mutex, if the notifier held it: see the last row |
//! | notifier, between sequence and wake-up | waiters that were not woken | the waiters' recheck: the sequence differs |
//! | woken waiter, before it has woken the next one or locked the mutex | its notification is lost | the other waiters' recheck: the sequence differs |
//! | holder of the mutex, while all other threads wait here | no thread touches the lock | the waiters' recheck: the lock word tells the owner death |
//!
//! The recheck: every waiter wakes at each multiple of [`RECHECK_INTERVAL`] on the
//! monotonic clock and reads three words without a lock. It waits on if the sequence is
//! unchanged, the lock word shows no owner death, and `poison_epoch` is unchanged.
//! Otherwise it returns, which at worst is one spurious wake-up. So a lost notification
//! delays waiters by one interval. A waiter that must pass the wake-up on, but is
//! stopped or gets no processor, delays the others by one interval, too. The first
//! waiter to see an owner death calls `notify_all`.
//!
//! [`RECHECK_INTERVAL`]: crate::os::clock::RECHECK_INTERVAL

use std::fmt;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::guard::ShmMutexGuard;
use super::raw_mutex::RawMutex;
use super::robust_lock::{LockToken, RawLockError};
use super::snapshot::CondvarState;
use super::wait::{self, Wait, WaitTimeoutLockResult, WaitTimeoutResult, wait_methods};
use crate::error::{Error, LockError, LockResult, PoisonCause};
use crate::os::clock::Deadline;
use crate::os::futex::{self, Bitset, FutexWait};
use crate::robust::spin;
use crate::shm_safe::{
    FieldPath, Parts, ShmSafe, SyncKind, SyncOps, TearFree, TypeProperties, Visitor,
};

/// A condition variable for shared memory, with the methods of [`std::sync::Condvar`].
///
/// Waiters wait on a futex, because a `pthread_cond_t` can't survive the death of its
/// users (see [`PthreadCondvar`](crate::PthreadCondvar)).
///
/// A waiter may wake without reason, as with every condition variable. So wait in a
/// loop or use [`wait_while`](Self::wait_while). Notify while you hold the mutex under
/// which you changed the condition. If the notifier dies between the change and the
/// notification, the waiters see an owner death of the mutex.
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
/// In the cookbook:
/// [at most three at a time](crate::guide::cookbook#at-most-three-at-a-time),
/// [signals and Ctrl-C](crate::guide::cookbook#signals-and-ctrl-c).
///
/// # Crash behaviour
///
/// Any waiter and any notifier may be killed at any instruction. A dead process never
/// blocks a notifier. If a woken waiter dies before it acts, another one wakes within
/// 250 ms. If the holder of the mutex dies, every waiter learns of it within 250 ms
/// ([`LockError::Poisoned`]). A large timer slack of a thread (`PR_SET_TIMERSLACK`,
/// systemd's `TimerSlackNSec=`) does not change that, with one exception: a wait that
/// begins within 150 ms after the slack has grown may last longer by the slack.
///
/// # Forks
///
/// A forked child may wait and notify like any process, with a guard of its own.
#[repr(C)]
pub struct ShmCondvar {
    /// A [`Sequence`].
    sequence: AtomicU32,
    /// The number of waiters, never too low. Every waiter that dies leaves it one too
    /// high.
    waiters: AtomicU32,
}

const _: () = {
    assert!(offset_of!(ShmCondvar, sequence) == 0);
    assert!(size_of::<ShmCondvar>() <= 64);
};

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)` over two atomic words, whose size is in the fingerprint.
// * The words have the same meaning in every process, and there is no destructor.
// * Sync objects: itself, reported at offset 0.
// * Any bytes are valid, so zeros and mixtures are.
unsafe impl ShmSafe for ShmCondvar {
    const PARTS: Parts = Parts::opaque("ShmCondvar", size_of::<Self>(), align_of::<Self>());
    const SYNC_OBJECTS: usize = 1;
    const PROPERTIES: TypeProperties = TypeProperties::POD.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        visitor(at, &CONDVAR);
    }
}

// SAFETY: any bytes are valid.
unsafe impl TearFree for ShmCondvar {}

static CONDVAR: SyncOps = SyncOps {
    kind: SyncKind::Condvar,
    size: size_of::<ShmCondvar>(),
    init_zeroed: |at| {
        // SAFETY: the contract of the field: the bytes at `at` are for a ShmCondvar.
        unsafe { at.cast::<ShmCondvar>().write(ShmCondvar::new()) };
    },
    // A ShmCondvar needs no initialisation.
    init: |_, _| Ok(()),
    reinit: |at, _| {
        // SAFETY: the contract of the field: a ShmCondvar is at `at`. It consists of
        // atomic words, for which any bytes are valid.
        let this = unsafe { &*at.cast::<ShmCondvar>() };
        // Relaxed, because no thread uses it.
        this.waiters.store(0, Ordering::Relaxed);
        Ok(())
    },
    is_held_by_this_process: |_| false,
};

/// The value of the sequence word. Both parts wrap around.
///
/// | bits | meaning |
/// |---|---|
/// | 0–26 | number of notifications |
/// | 27–31 | generation of waiters |
///
/// * A waiter misses notifications if the word returns to the value that it has seen.
///   That needs more than 100 million notifications in one recheck interval: about one
///   per nanosecond.
/// * If the number of notifications overflows into the generation, the effect is one
///   more `notify_all`.
/// * If 32 generations begin before a waiter of the first is woken, it wakes by its
///   recheck.
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

/// Why a wait in the kernel ended.
enum WaitOutcome {
    /// The condition may have changed.
    Notified,
    /// The caller's deadline passed.
    TimedOut,
}

impl ShmCondvar {
    /// Makes a condition variable without waiters.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmCondvar, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let shared = Segment::anonymous((ShmMutex::new(0), ShmCondvar::new()))?;
    /// shared.1.notify_all();
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sequence: AtomicU32::new(0),
            waiters: AtomicU32::new(0),
        }
    }

    /// Wakes one waiter, if there is any. Never blocks.
    ///
    /// A thread that is about to wait may notice the notification as well.
    ///
    /// ```
    /// use shm_sync::{Error, ShmCondvar, ShmMutex};
    ///
    /// fn add_job(pending: &ShmMutex<u64>, changed: &ShmCondvar) -> Result<(), Error> {
    ///     let mut pending = pending.lock()?;
    ///     *pending += 1;
    ///     changed.notify_one();
    ///     Ok(())
    /// }
    /// ```
    #[inline]
    pub fn notify_one(&self) {
        let before = self.add(Sequence::ONE);
        self.wake_one_of(before.generation());
    }

    /// Wakes all waiters. Never blocks.
    ///
    /// Each waiter wakes the next one, so that they do not all compete for the mutex at
    /// once.
    ///
    /// ```
    /// use shm_sync::{Error, ShmCondvar, ShmMutex};
    ///
    /// fn stop(stopped: &ShmMutex<u8>, changed: &ShmCondvar) -> Result<(), Error> {
    ///     let mut stopped = stopped.lock()?;
    ///     *stopped = 1;
    ///     changed.notify_all();
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Crash behaviour
    ///
    /// If a waiter is killed or stopped before it wakes the next one, the waiters
    /// behind it wake within 250 ms.
    #[inline]
    pub fn notify_all(&self) {
        let before = self.add(Sequence::NEW_GENERATION);
        let now = Sequence(before.0.wrapping_add(Sequence::NEW_GENERATION));
        self.wake_one_of(now.generation().others());
    }

    /// Adds to the sequence, and returns its previous value.
    #[inline]
    fn add(&self, step: u32) -> Sequence {
        // SeqCst: the notifier's row of the table above.
        Sequence(self.sequence.fetch_add(step, Ordering::SeqCst))
    }

    #[inline]
    fn wake_one_of(&self, generations: Bitset) {
        // SeqCst: the notifier's row of the table above.
        if self.waiters.load(Ordering::SeqCst) != 0 {
            futex::wake_bitset(&self.sequence, generations);
        }
    }

    /// Waits in the kernel until the sequence is no longer `seen`, the deadline passes,
    /// or a recheck finds `must_return`. Wakes the next waiter if a new generation has
    /// begun.
    fn wait_in_kernel(
        &self,
        seen: Sequence,
        deadline: Option<Deadline>,
        must_return: impl Fn() -> bool,
    ) -> Result<WaitOutcome, RawLockError> {
        // The kernel reads the sequence after this, behind its own full barrier: the
        // waiter's row of the table above.
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let outcome = loop {
            let until = Deadline::next_recheck(deadline);
            match futex::wait_bitset(&self.sequence, seen.0, seen.generation(), Some(until)) {
                Ok(FutexWait::Woken) => break Ok(WaitOutcome::Notified),
                Ok(FutexWait::TimedOut) => {}
                Err(error) => break Err(LockError::Os(error)),
            }
            // The next wait rechecks the sequence, because the kernel compares it.
            if must_return() {
                break Ok(WaitOutcome::Notified);
            }
            if deadline.is_some_and(Deadline::has_passed) {
                break Ok(WaitOutcome::TimedOut);
            }
        };
        // Relaxed, because a count that is too high for a moment is harmless.
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        // Relaxed: a woken waiter observes the notifier's increment, because the
        // kernel's hash-bucket lock orders the two. A waiter that was not woken has
        // nothing to pass on.
        let now = self.sequence();
        if now.generation() != seen.generation() {
            self.wake_one_of(now.generation().others());
        }
        outcome
    }

    /// Loads the sequence `Relaxed`. Each caller says why that is enough.
    #[inline]
    fn sequence(&self) -> Sequence {
        Sequence(self.sequence.load(Ordering::Relaxed))
    }

    /// Describes the condition variable by its words. Any words are valid.
    pub(super) fn state(&self) -> CondvarState {
        // Relaxed, because the result is only for people.
        CondvarState {
            notifications: self.sequence().notifications(),
            waiters: self.waiters.load(Ordering::Relaxed),
        }
    }
}

wait_methods!(ShmCondvar);

impl Wait for ShmCondvar {
    fn wait_raw(
        &self,
        mutex: &RawMutex,
        token: LockToken,
        deadline: Option<Deadline>,
    ) -> Result<(LockToken, WaitTimeoutResult), RawLockError> {
        // This thread holds the mutex, so a later change of the condition or of the
        // poison changes these. Relaxed, because the mutex orders both.
        let seen = self.sequence();
        let poison_epoch = mutex.poison_epoch();
        let Some(unlocked) = mutex.unlock_for_wait(token) else {
            return Err(LockError::NotOwner);
        };

        // Relaxed, because locking the mutex again orders the data.
        let notified = || self.sequence().0 != seen.0;
        let outcome = if spin::spin_until(notified) {
            WaitOutcome::Notified
        } else {
            self.wait_in_kernel(seen, deadline, || {
                mutex.owner_died() || mutex.poison_epoch() != poison_epoch
            })?
        };

        let (token, owner_died) = mutex.relock(unlocked)?;
        if owner_died {
            self.notify_all();
        }
        let timed_out = matches!(outcome, WaitOutcome::TimedOut);
        Ok((token, WaitTimeoutResult { timed_out }))
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
    use crate::documented;
    use crate::shm_safe::InitContext;

    #[test]
    fn reinit_clears_waiters_and_keeps_sequence() {
        let mut condvar = ShmCondvar {
            sequence: AtomicU32::new(7),
            waiters: AtomicU32::new(3),
        };
        let at = (&raw mut condvar).cast();
        let context = InitContext { pid_namespace: 1 };
        // SAFETY: a ShmCondvar is at `at`, where it stays. No thread uses it.
        unsafe { (CONDVAR.reinit)(at, context) }.expect("reinit of a ShmCondvar can't fail");
        assert_eq!(*condvar.sequence.get_mut(), 7);
        assert_eq!(*condvar.waiters.get_mut(), 0);
        // SAFETY: the bytes are for a ShmCondvar. No thread uses them.
        unsafe { (CONDVAR.init_zeroed)((&raw mut condvar).cast()) };
        assert_eq!(*condvar.sequence.get_mut(), 0);
    }

    #[test]
    fn numbers_are_documented() {
        documented::fields!("ShmCondvar", ShmCondvar { sequence, waiters });
        let notifications = Sequence(u32::MAX).notifications();
        documented::bits(
            "sequence",
            &[
                ("notifications", notifications.into()),
                ("generation", (!notifications).into()),
            ],
        );
        assert_eq!(
            Sequence::NEW_GENERATION,
            (1 << 27) + 1,
            "docs/format.md has the number"
        );
    }
}
