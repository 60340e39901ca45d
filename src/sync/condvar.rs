//! `ShmCondvar`: waits for a change of the data under a `ShmMutex`, without polling,
//! and survives the death of any process.
//!
//! # The protocol
//!
//! The condition variable is a sequence number, whose top bits are a *generation*, and
//! a count of waiters.
//!
//! * **wait** reads the sequence under the mutex, unlocks the mutex, spins briefly, and
//!   then waits in the kernel while the sequence is unchanged. Then it locks the mutex
//!   again.
//! * **notify_one** adds one to the sequence. If there are waiters, it wakes one.
//! * **notify_all** adds one and begins a new generation. If there are waiters, it
//!   wakes all.
//!
//! Usually the notifier holds the mutex. A waiter that it woke would have to wait for
//! the mutex, too, and would sleep a second time. So such a notifier delays the
//! wake-up, if this copy of the crate has locked the mutex, if the thread has neither
//! locked nor unlocked another mutex since, and if the mutex has no priority
//! inheritance:
//!
//! * **notify_one** leaves it to the unlock of the notifier.
//! * **notify_all** moves the waiters to the queue of the mutex, and marks the lock
//!   word with `FUTEX_WAITERS`. The unlock of the notifier wakes [`WOKEN_TOGETHER`] of
//!   them. Each of these locks the mutex as a thread that has slept in its queue,
//!   because its generation is over: it marks the lock word again. So its unlock wakes
//!   the next waiter. A few waiters compete for the mutex at a time, whatever their
//!   number.
//!
//! # Which mutex
//!
//! A waiter stores the distance from the condition variable to its mutex. The notifier
//! adds the distance to the address of the condition variable, and compares the sum
//! with the address of the mutex that it has locked last. It accesses the mutex by its
//! own pointer. If the sum is another address, the notifier wakes at once.
//!
//! `notify_all` moves all waiters, and all are of older generations: a waiter of the
//! new generation would have to lock the mutex first, and the notifier holds it. A
//! waiter with another mutex would break this rule. So after the wait of such a waiter,
//! all notifiers wake at once.
//!
//! The distance is the same in all processes if both objects are in one segment. A
//! wrong distance can lead to another mutex that the notifier holds. Then waiters of
//! the condition variable and of that mutex may sleep until their recheck.
//!
//! # Memory ordering
//!
//! As long as no process dies, no wake-up is lost. The waiter reads the sequence before
//! it unlocks the mutex. So a notification that follows a change under the mutex
//! changes the sequence after that read. Then the kernel either refuses to wait on the
//! changed word, or has queued the waiter and wakes it. There is one exception: a
//! thread of higher real-time priority begins to wait after a notification and before
//! its wake-up. The kernel then wakes that thread, and the earlier waiter wakes by its
//! recheck.
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
//! | waiter, at any point of the wait | `waiters` one too high | nothing needs to: a notifier makes a system call in vain |
//! | notifier, before the sequence | no notification | the mutex, if the notifier held it: see the last row |
//! | notifier, between sequence and wake-up | waiters that were not woken | the waiters' recheck: the sequence differs |
//! | woken waiter, before it has locked the mutex | its notification is lost | the other waiters' recheck: the sequence differs |
//! | the same, in the queue of the mutex | the wake-up of the next waiter is lost | the kernel wakes the next waiter of the free mutex, which `list_op_pending` names; if another thread has locked it, the rechecks of the waiters |
//! | holder of the mutex, while all other threads wait here | no thread touches the lock | the waiters' recheck: the lock word tells the owner death |
//!
//! The recheck: every waiter wakes at each multiple of [`RECHECK_INTERVAL`] on the
//! monotonic clock and reads three words without a lock. It waits on if the sequence is
//! unchanged, the lock word shows no owner death, and `poison_epoch` is unchanged.
//! Otherwise it returns, which at worst is one spurious wake-up. So a lost notification
//! delays waiters by one interval. A notifier or a woken waiter that is stopped or gets
//! no processor delays the others by one interval, too. The first waiter to see an
//! owner death calls `notify_all`.
//!
//! [`RECHECK_INTERVAL`]: crate::os::clock::RECHECK_INTERVAL

use std::fmt;
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::guard::ShmMutexGuard;
use super::raw_mutex::RawMutex;
use super::robust_lock::{LockToken, RawLockError};
use super::snapshot::CondvarState;
use super::wait::{self, Wait, WaitTimeoutLockResult, WaitTimeoutResult, wait_methods};
use crate::error::{Error, LockError, LockResult, PoisonCause};
use crate::os::clock::Deadline;
use crate::os::futex::{self, FutexWait, Wake};
use crate::robust::{Queued, RobustMutex, ThreadState, spin};
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
/// which you changed the condition. Then the waiters wake when you unlock it. If the
/// notifier dies between the change and the notification, the waiters see an owner
/// death of the mutex.
///
/// Let all waiters of a condition variable use the same mutex, and put both into the
/// same segment. Otherwise some waiters may wake up to 250 ms late.
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
    /// The distance in bytes from this object to the `pthread_mutex_t` of its waiters,
    /// or 0, or [`SEVERAL_MUTEXES`].
    mutex: AtomicU64,
}

const _: () = {
    assert!(offset_of!(ShmCondvar, sequence) == 0);
    assert!(size_of::<ShmCondvar>() <= 64);
};

/// Instead of a distance: waiters have used several mutexes, or a waiter locks by libc.
/// It is no distance, because both objects are aligned to 8 bytes.
const SEVERAL_MUTEXES: u64 = u64::MAX;

/// How many waiters the unlock after a `notify_all` wakes. If it woke one, no thread
/// would use the mutex until that one runs. If it woke all, they would compete for the
/// mutex. The figures are in `docs/decisions/notify-all.md`.
const WOKEN_TOGETHER: u32 = 6;

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)` over atomic words, whose size is in the fingerprint.
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
        this.mutex.store(0, Ordering::Relaxed);
        Ok(())
    },
    is_held_by_this_process: |_| false,
};

/// The value of the sequence word. Both parts wrap around.
///
/// | bits | meaning |
/// |---|---|
/// | 0–23 | number of notifications |
/// | 24–31 | generation of waiters |
///
/// * A waiter misses notifications if the word returns to the value that it has seen.
///   That needs more than 16 million notifications in one recheck interval: one in 9
///   nanoseconds.
/// * If the number of notifications overflows into the generation, waiters mark the
///   lock word needlessly.
/// * If exactly 256 generations begin before a waiter of the first is woken, the waiter
///   does not see that its generation is over. The waiters behind it wake by their
///   recheck.
#[derive(Clone, Copy, Debug)]
struct Sequence(u32);

impl Sequence {
    const NOTIFICATION_BITS: u32 = 24;
    const ONE: u32 = 1;
    const NEW_GENERATION: u32 = 1 << Self::NOTIFICATION_BITS | Self::ONE;

    fn generation(self) -> u32 {
        self.0 >> Self::NOTIFICATION_BITS
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
            mutex: AtomicU64::new(0),
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
    ///
    /// If this thread holds the mutex of the waiters, and has neither locked nor
    /// unlocked another mutex since, the waiter wakes when the thread unlocks it.
    /// Otherwise it wakes at once.
    #[inline]
    pub fn notify_one(&self) {
        self.add(Sequence::ONE);
        if self.has_waiters() {
            self.wake_one();
        }
    }

    /// Wakes all waiters. Never blocks.
    ///
    /// If this thread holds the mutex of the waiters, and has neither locked nor
    /// unlocked another mutex since, they wake when it is unlocked: some at first, and
    /// then one at each unlock. Otherwise they all wake at once, and compete for the
    /// mutex.
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
    /// If a waiter is killed or stopped between waking and locking, the waiters behind
    /// it wake within 250 ms.
    #[inline]
    pub fn notify_all(&self) {
        self.add(Sequence::NEW_GENERATION);
        if self.has_waiters() {
            self.wake_all();
        }
    }

    /// Adds to the sequence.
    #[inline]
    fn add(&self, step: u32) {
        // SeqCst: the notifier's row of the table above.
        self.sequence.fetch_add(step, Ordering::SeqCst);
    }

    /// Returns whether there may be waiters.
    #[inline]
    fn has_waiters(&self) -> bool {
        // SeqCst: the notifier's row of the table above.
        self.waiters.load(Ordering::SeqCst) != 0
    }

    /// Wakes one waiter, now or when this thread unlocks the waiters' mutex.
    #[inline(never)]
    fn wake_one(&self) {
        let is_deferred = self.with_held_mutex(|me, _| {
            me.defer_wake(&self.sequence);
            true
        });
        if !is_deferred {
            futex::wake(&self.sequence, Wake::One);
        }
    }

    /// Wakes all waiters now, or one after another as the waiters' mutex is unlocked.
    #[inline(never)]
    fn wake_all(&self) {
        let have_moved = self.with_held_mutex(|me, mutex| {
            let moved = mutex.take_waiters_of(&self.sequence);
            if moved.is_some_and(|moved| moved > 0) {
                me.wake_lockers_at_unlock(WOKEN_TOGETHER);
            }
            moved.is_some()
        });
        if !have_moved {
            futex::wake(&self.sequence, Wake::All);
        }
    }

    /// Calls `f` if this thread holds the waiters' mutex, and has neither locked nor
    /// unlocked another since. Otherwise returns `false`.
    fn with_held_mutex(&self, f: impl FnOnce(&ThreadState, &RobustMutex) -> bool) -> bool {
        // Relaxed: the waiter stored it before it added itself to `waiters`, which this
        // thread has read. A wrong value is harmless: see "Which mutex" above.
        let distance = self.mutex.load(Ordering::Relaxed) as usize;
        let address = ptr::from_ref(self).addr().wrapping_add(distance);
        ThreadState::with_cached(|me| {
            let mutex = me.newest_lock_at(address);
            mutex.is_some_and(|mutex| f(me, mutex))
        })
    }

    /// Waits in the kernel until the sequence is no longer `seen`, the deadline passes,
    /// or a recheck finds `must_return`.
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
            match futex::wait(&self.sequence, seen.0, Some(until)) {
                Ok(FutexWait::Woken) => break Ok(WaitOutcome::Notified),
                Ok(FutexWait::TimedOut) => {}
                Err(error) => break Err(LockError::Os(error)),
            }
            // The next wait rechecks the sequence, because the kernel compares it.
            if must_return() {
                break Ok(WaitOutcome::Notified);
            }
            if deadline.is_some_and(Deadline::has_passed) {
                // The notification may have come before the deadline, and the wake-up
                // waits for an unlock. Relaxed, because locking again orders the data.
                let is_notified = self.sequence().0 != seen.0;
                break Ok(if is_notified {
                    WaitOutcome::Notified
                } else {
                    WaitOutcome::TimedOut
                });
            }
        };
        // Relaxed, because a count that is too high for a moment is harmless.
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        outcome
    }

    /// Stores the distance to this waiter's mutex. Stores [`SEVERAL_MUTEXES`] if
    /// another waiter has stored another distance, or if this waiter can't be queued:
    /// it would lock by libc, without a mark for the waiters behind it.
    fn store_distance_to(&self, mutex: &RawMutex, can_be_queued: bool) {
        let here = ptr::from_ref(self).addr();
        let distance = if can_be_queued {
            mutex.pthread_address().wrapping_sub(here) as u64
        } else {
            SEVERAL_MUTEXES
        };
        // Relaxed: see `with_held_mutex`.
        let stored = self
            .mutex
            .compare_exchange(0, distance, Ordering::Relaxed, Ordering::Relaxed);
        if stored.is_err_and(|before| before != distance) {
            self.mutex.store(SEVERAL_MUTEXES, Ordering::Relaxed);
        }
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

        let (outcome, token, owner_died) = mutex.wait_and_relock(unlocked, || {
            // Relaxed, because locking the mutex again orders the data.
            let notified = || self.sequence().0 != seen.0;
            if spin::spin_until(notified) {
                return Ok((WaitOutcome::Notified, Queued::No));
            }
            self.store_distance_to(mutex, unlocked.can_be_queued());
            let must_return = || mutex.owner_died() || mutex.poison_epoch() != poison_epoch;
            let outcome = self.wait_in_kernel(seen, deadline, must_return)?;
            // Relaxed: the kernel's queue orders the notifier's addition before a wake.
            let is_over = self.sequence().generation() != seen.generation();
            let queued = if is_over { Queued::Perhaps } else { Queued::No };
            Ok((outcome, queued))
        })?;
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
            mutex: AtomicU64::new(0),
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
        documented::fields!(
            "ShmCondvar",
            ShmCondvar {
                sequence,
                waiters,
                mutex
            }
        );
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
            (1 << 24) + 1,
            "docs/format.md has the number"
        );
    }
}
