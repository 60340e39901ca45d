//! The state of a System V segment, in its header.
//!
//! A key cannot be given to a segment that is complete: it leads to a segment of zeros
//! first. Therefore the segment itself contains its state.
//!
//! | state | meaning | the lock |
//! |---|---|---|
//! | [`NEW`] | created; the creator has not locked it yet, or died before | uninitialised |
//! | [`INITIALIZING`] | the creator is writing the contents | held by the creator |
//! | [`READY`] | complete | unlocked |
//! | [`REMOVING`] | a remover checks the count of attachments, and removes the segment if no other process is attached | held by the remover |
//! | [`DEAD`] | it has lost its key or is about to: look the key up again | any; uninitialised if `NEW` came before |
//! | a [claim](is_claim) | a process of another pid namespace checks the count of attachments | of the old namespace |
//! | [`REINITIALIZING`] | no process uses it, and the only attached process reinitialises its locks | being initialised |
//!
//! The lock is a robust pthread mutex. A process that waits for a creator or a remover
//! therefore notices owner death, and reads from the state how far the owner got.
//!
//! # Another pid namespace
//!
//! When a container is restarted, the new one has another pid namespace. The owner of
//! the lock is a thread id of the old namespace, so the lock cannot be used. Instead
//! the kernel's count of attachments, which covers all pid namespaces, and the state
//! word decide. A process P of the new namespace (a newcomer) proceeds as follows:
//!
//! 1. P attaches. If the count is not 1, P detaches, pauses, and tries again.
//! 2. P changes `READY` to a claim with a number that no other claim has.
//! 3. P reads the count. If it is 1, P changes *its own claim* to `REINITIALIZING`. If
//!    it is not 1, P changes its own claim back to `READY`.
//! 4. P reinitialises all locks and the lock of the state, poisons the mutexes that
//!    were held, writes its namespace into the header, and stores `READY`.
//!
//! A process of the old namespace attaches and then loads the state. If it loads
//! `READY`, it is a user. If it loads a claim, it waits a moment and changes that claim
//! to `READY`. If it loads `REINITIALIZING`, it detaches and tries again later.
//!
//! *Never users of two namespaces.* Let U be attached with the locks of the old
//! namespace when P has changed its claim to `REINITIALIZING`. U loaded `READY` while
//! it was attached. (a) U loaded it before P stored the claim. Then U was attached
//! before P read the count, and still is, so P counted at least 2. (b) U loaded it
//! afterwards. Then some process had replaced P's claim. No other claim has its number,
//! so P's change to `REINITIALIZING` failed. Both contradict the assumption. After the
//! change, no process becomes a user before P stores `READY`: each loads
//! `REINITIALIZING` and does not touch the locks. (c) Two processes that reinitialise:
//! the second counted 1 and loaded `REINITIALIZING` *afterwards*. A process that
//! reinitialises is attached until it has stored `READY` or is dead. At the count, the
//! first process was therefore not at work, and had not stored `READY`: it was dead. No
//! process began after the count, because it would have counted the second.
//!
//! *A crash at any instruction.* Before step 2 nothing has changed. The claim of a dead
//! process is changed to `READY` by the next process that arrives: at once if it is
//! alone, because a live claimant would be attached, and otherwise after [`GRACE`]. A
//! claimant that is alive notices that its claim was replaced, so the timeout never
//! misjudges a live process. From `REINITIALIZING` on, only the count decides: the next
//! process that counts 1 and still loads `REINITIALIZING` repeats step 4 from the
//! beginning. A mutex is poisoned before its lock is reinitialised, so a repetition
//! does not lose the poison.
//!
//! *Progress.* Several newcomers consider each other users. Each detaches before it
//! pauses. The pauses grow and differ in length, so one newcomer is soon alone. The
//! kernel has no call that waits for a count of attachments, and a process that waits
//! on a futex in the segment is attached. Therefore the pauses are timed. After
//! [`FOREIGN_NAMESPACE_TIMEOUT`] a newcomer considers them users and returns
//! `ForeignPidNamespace`.
//!
//! A remover of another namespace does steps 1 to 3, and then removes the segment
//! instead of step 4.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::error::{CorruptHeader, Error, IdentityError, LockError};
use crate::os::clock::Deadline;
use crate::os::fork::ForkMarker;
use crate::os::futex::{self, Wake};
use crate::os::mem::{Access, AnyBytes, Mapping};
use crate::os::pthread::{Outcome, Protocol};
use crate::robust::{Blocking, BoundToThread, Queued, RobustMutex, ThreadState};
use crate::segment::failure;
use crate::segment::format::offsets;

/// All bytes of a new segment are zero.
pub(in crate::segment) const NEW: u32 = 0;
pub(in crate::segment) const INITIALIZING: u32 = 1;
pub(in crate::segment) const READY: u32 = 2;
pub(in crate::segment) const REMOVING: u32 = 3;
pub(in crate::segment) const DEAD: u32 = 4;
/// The low byte of a claim. The bytes above it are the number of the claim.
const CLAIM: u32 = 5;
pub(in crate::segment) const REINITIALIZING: u32 = 6;

/// Returns whether a state is a claim.
pub(in crate::segment) const fn is_claim(state: u32) -> bool {
    state & 0xff == CLAIM
}

/// The longest time for which a process waits for another process that creates,
/// reinitialises or removes a segment. Then it returns [`Error::Unfinished`]. A creator
/// that writes gigabytes takes seconds, and service managers abandon a start after 90
/// s.
pub(in crate::segment) const UNFINISHED_TIMEOUT: Duration = Duration::from_secs(10);

/// The time for which a newcomer tries to be the only attached process. Then it
/// considers the other attached processes users.
pub(in crate::segment) const FOREIGN_NAMESPACE_TIMEOUT: Duration = Duration::from_millis(250);

/// The time that a creator has between creating the segment and locking it. Then other
/// processes remove the segment. A slow creator detects this and retries, so the
/// timeout never misjudges a live process.
const GRACE: Duration = Duration::from_millis(20);

/// Initialisation state of a System V segment.
///
/// # Memory ordering
///
/// `READY` is stored with `Release` after all contents, and loaded with `Acquire`
/// before any. A remover stores `REMOVING` and then reads the kernel's count of
/// attachments. A process that opens the segment attaches and then loads the state. At
/// least one of the two must see the other, so both accesses are `SeqCst`. (The kernel
/// takes the lock of the segment in both calls, so `Release` and `Acquire` would do.)
#[repr(C)]
pub(crate) struct SysvState {
    state: AtomicU32,
    /// The number of the last claim. The upper 24 bits of a claim are the low 24 bits
    /// of its number.
    claims: AtomicU32,
    lock: RobustMutex,
}

const _: () = {
    assert!(size_of::<SysvState>() <= offsets::SYSV_STATE.len());
    assert!(offsets::SYSV_STATE.offset() % align_of::<SysvState>() == 0);
    assert!(offset_of!(SysvState, state) == 0);
    assert!(offset_of!(SysvState, claims) == 4);
    assert!(offset_of!(SysvState, lock) == 8);
};

// SAFETY:
// * Every integer is a valid state or count, and any bytes are a valid `RobustMutex`.
// * All bytes are in `UnsafeCell`s. The safe methods of this type and of the mutex use
//   them by atomic operations only. Locking and unlocking the mutex are unsafe.
unsafe impl AnyBytes for SysvState {}

impl SysvState {
    /// Returns the state in the header of a mapped segment.
    ///
    /// # Panics
    ///
    /// If the mapping is shorter than a header.
    pub(in crate::segment) fn of(mapping: &Mapping) -> &Self {
        let state = mapping.get(offsets::SYSV_STATE.offset());
        state.unwrap_or_else(|| unreachable!("the mapping contains a header"))
    }

    pub(in crate::segment) fn state(&self) -> u32 {
        self.state.load(Ordering::SeqCst)
    }

    /// Stores a state, and wakes the processes that wait for a change.
    pub(in crate::segment) fn set_state(&self, state: u32) {
        self.state.store(state, Ordering::SeqCst);
        futex::wake(&self.state, Wake::All);
    }

    /// Changes the state from `NEW` to `next`. Returns `false` if it is not `NEW` any
    /// more.
    pub(in crate::segment) fn try_leave_new(&self, next: u32) -> bool {
        self.replace(NEW, next)
    }

    /// Changes the state from `old` to `new`. Returns `false`, and changes nothing, if
    /// it is not `old` any more.
    pub(in crate::segment) fn replace(&self, old: u32, new: u32) -> bool {
        let changed = self
            .state
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst);
        futex::wake(&self.state, Wake::All);
        changed.is_ok()
    }

    /// Changes `READY` to a claim with a new number. Returns the claim, or `None` if
    /// the state is not `READY`.
    pub(in crate::segment) fn claim(&self) -> Option<u32> {
        let number = self.claims.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        let claim = number << 8 | CLAIM;
        self.replace(READY, claim).then_some(claim)
    }

    /// Waits until the state changes, at most for [`GRACE`]. It returns at once if the
    /// mapping is read-only, because a futex wait needs a writable page.
    pub(in crate::segment) fn wait_while(&self, state: u32, access: Access) -> Result<(), Error> {
        if access == Access::ReadOnly {
            return Ok(());
        }
        let until = Deadline::after(GRACE);
        while self.state() == state && !until.has_passed() {
            futex::wait(&self.state, state, Some(until)).map_err(failure::os_error("futex"))?;
        }
        Ok(())
    }

    /// Initialises the lock.
    ///
    /// # Safety
    ///
    /// * No other process uses the lock before the state changes: the state is `NEW`
    ///   and the caller created the segment, or it is `REINITIALIZING` by the caller.
    /// * The segment stays mapped for as long as the lock is held.
    pub(in crate::segment) unsafe fn init_lock(&self) -> Result<(), Error> {
        // SAFETY:
        // * No other thread or process uses the lock: the first clause of this
        //   function.
        // * It stays where it is in the segment, and mapped: the second clause.
        unsafe { self.lock.init(Protocol::None) }.map_err(failure::os_error("pthread_mutex_init"))
    }

    /// Locks the state. Owner death needs no repair, because the state records how far
    /// the owner got.
    ///
    /// # Errors
    ///
    /// * [`Error::Unfinished`]: the holder keeps the lock for [`UNFINISHED_TIMEOUT`].
    /// * [`Error::Corrupt`]: the lock is of a kind that [`init_lock`](Self::init_lock)
    ///   never makes.
    /// * [`Error::HeaderLock`]: this thread holds the lock, or the bytes claim so; the
    ///   lock is in pthread's state `NotRecoverable`; or this thread holds as many
    ///   locks as the kernel handles.
    ///
    /// # Safety
    ///
    /// * The lock is initialised, in the pid namespace of this process.
    /// * All users who may write to the segment are trusted.
    /// * The segment stays mapped for as long as the lock is held.
    pub(in crate::segment) unsafe fn lock(&self) -> Result<StateGuard<'_>, Error> {
        let deadline = Deadline::after(UNFINISHED_TIMEOUT);
        // SAFETY: initialised in this pid namespace, all writers trusted, mapped while
        // it is held: the three clauses of this function.
        let guard = unsafe { self.lock_with(Blocking::WaitUntil(deadline)) }?;
        guard.ok_or(Error::Unfinished {
            address: None,
            waited: UNFINISHED_TIMEOUT,
        })
    }

    /// Locks the state without waiting. Returns `None` if another thread holds the
    /// lock.
    ///
    /// # Errors
    ///
    /// Those of [`lock`](Self::lock), except [`Error::Unfinished`].
    ///
    /// # Safety
    ///
    /// * The lock is initialised, in the pid namespace of this process.
    /// * All users who may write to the segment are trusted.
    /// * The segment stays mapped for as long as the lock is held.
    pub(in crate::segment) unsafe fn try_lock(&self) -> Result<Option<StateGuard<'_>>, Error> {
        // SAFETY: initialised in this pid namespace, all writers trusted, mapped while
        // it is held: the three clauses of this function.
        unsafe { self.lock_with(Blocking::Try) }
    }

    /// Locks the state. Returns `None` if another thread holds the lock and `blocking`
    /// allows no further waiting.
    ///
    /// # Safety
    ///
    /// * The lock is initialised, in the pid namespace of this process.
    /// * All users who may write to the segment are trusted.
    /// * The segment stays mapped for as long as the lock is held.
    unsafe fn lock_with(&self, blocking: Blocking) -> Result<Option<StateGuard<'_>>, Error> {
        ThreadState::with(|thread: Result<&ThreadState, IdentityError>| {
            let thread = thread?;
            let Some(room) = thread.room() else {
                return Err(header_lock(LockError::TooManyLocks));
            };
            if self.lock.is_unsafe_for_libc(thread.owner()) {
                return Err(CorruptHeader::UnknownLock.into());
            }
            // SAFETY:
            // * Initialised: the first clause of this function.
            // * Mapped while it is held: the third clause.
            // * `thread` is the calling thread.
            match unsafe { self.lock.lock(thread.owner(), blocking, Queued::No) } {
                Outcome::Acquired => {}
                Outcome::OwnerDied => {
                    // SAFETY:
                    // * Initialised: the first clause of this function.
                    // * This thread holds the lock after an owner death: the outcome.
                    unsafe { self.lock.mark_consistent(thread.owner()) }
                        .map_err(failure::os_error("pthread_mutex_consistent"))?;
                }
                Outcome::Deadlock => return Err(header_lock(LockError::Deadlock)),
                Outcome::NotRecoverable => return Err(header_lock(LockError::NotRecoverable)),
                Outcome::Failed(code) => {
                    let source = std::io::Error::from_raw_os_error(code);
                    return Err(failure::os_error("pthread_mutex_lock")(source));
                }
                Outcome::Busy | Outcome::TimedOut => return Ok(None),
            }
            thread.push_lock(room);
            let marker = thread.marker();
            Ok(Some(StateGuard {
                state: self,
                marker,
                bound: PhantomData,
            }))
        })
    }
}

fn header_lock(source: LockError<Infallible>) -> Error {
    Error::HeaderLock {
        address: None,
        source,
    }
}

/// Holds the lock of a state. Dropping it unlocks, but not in a forked child, where the
/// holder is the parent.
pub(in crate::segment) struct StateGuard<'a> {
    state: &'a SysvState,
    marker: ForkMarker,
    bound: BoundToThread,
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        if !self.marker.is_current() {
            return;
        }
        ThreadState::with_cached(|thread| {
            // SAFETY:
            // * Initialised and mapped: the lock is held.
            // * Held by this thread: the guard does not leave the thread that locked,
            //   and the marker shows that this process locked.
            let _ = unsafe { self.state.lock.unlock(thread.owner(), || (), Wake::One) };
            thread.forget_lock();
        });
    }
}

/// The pauses between attempts to use a segment that is not usable yet. The process is
/// detached during a pause, because the kernel would count it as a user.
pub(in crate::segment) struct AttachBackoff {
    begun: Deadline,
    /// The end of the attempts as a newcomer, from the first call of
    /// [`may_retry_as_newcomer`](Self::may_retry_as_newcomer) on.
    newcomer_until: Option<Deadline>,
    pause: Duration,
}

impl AttachBackoff {
    const FIRST_PAUSE: Duration = Duration::from_millis(1);
    const LONGEST_PAUSE: Duration = Duration::from_millis(32);

    pub(in crate::segment) fn new() -> Self {
        Self {
            begun: Deadline::now(),
            newcomer_until: None,
            pause: Self::FIRST_PAUSE,
        }
    }

    /// Returns whether the other attached processes may still be newcomers, too: for
    /// [`FOREIGN_NAMESPACE_TIMEOUT`] from the first call on.
    pub(in crate::segment) fn may_retry_as_newcomer(&mut self) -> bool {
        let until = self.newcomer_until;
        let until = until.unwrap_or_else(|| Deadline::after(FOREIGN_NAMESPACE_TIMEOUT));
        self.newcomer_until = Some(until);
        !until.has_passed()
    }

    /// Waits until the next attempt. Returns `false` if the attempts have lasted for
    /// `limit`.
    pub(in crate::segment) fn pause(&mut self, limit: Duration) -> Result<bool, Error> {
        let end = self.begun.plus(limit);
        if end.has_passed() {
            return Ok(false);
        }
        // The pause is extended by up to its own length, depending on the process and
        // the time, so that two processes that met do not meet again.
        let now = Deadline::now();
        let spread = self.pause.as_micros() as u64;
        let mixed = now.mixed_with(std::process::id());
        let extra = Duration::from_micros(mixed % spread.max(1));
        let until = now.plus(self.pause + extra).min(end);
        let never_woken = AtomicU32::new(0);
        while !until.has_passed() {
            futex::wait(&never_woken, 0, Some(until)).map_err(failure::os_error("futex"))?;
        }
        self.pause = (self.pause * 2).min(Self::LONGEST_PAUSE);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn numbers_are_documented() {
        documented::fields!(
            "SysvState",
            SysvState {
                state,
                claims,
                lock
            }
        );
        documented::values(
            "state",
            &[
                ("NEW", NEW.into()),
                ("INITIALIZING", INITIALIZING.into()),
                ("READY", READY.into()),
                ("REMOVING", REMOVING.into()),
                ("DEAD", DEAD.into()),
                ("CLAIM", CLAIM.into()),
                ("REINITIALIZING", REINITIALIZING.into()),
            ],
        );
        let milliseconds = |time: Duration| time.as_millis() as u64;
        documented::values(
            "times of a System V segment",
            &[
                ("GRACE", milliseconds(GRACE)),
                ("UNFINISHED_TIMEOUT", milliseconds(UNFINISHED_TIMEOUT)),
                (
                    "FOREIGN_NAMESPACE_TIMEOUT",
                    milliseconds(FOREIGN_NAMESPACE_TIMEOUT),
                ),
            ],
        );
    }
}
