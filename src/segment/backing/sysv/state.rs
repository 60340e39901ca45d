//! The live part of a System V segment's header: where it is in its life.
//!
//! A System V key can't be given to a segment that is complete: it leads to zeros
//! at first. So the segment itself says how far it is.
//!
//! | state | meaning | the lock |
//! |---|---|---|
//! | [`NEW`] | new: its creator is about to take the lock, or died before | not made yet |
//! | [`INITIALIZING`] | the creator fills it | held by the creator |
//! | [`READY`] | complete | free |
//! | [`REMOVING`] | somebody looks whether it is abandoned, and removes it if so | held by that one |
//! | [`DEAD`] | it has lost its key, or is about to: look the key up again | any; not made if `NEW` came before |
//! | a [claim](is_claim) | a process of another pid namespace counts the attachments | of the old namespace |
//! | [`REINITIALIZING`] | no process uses it, and the only process that is attached makes its locks anew | being made |
//!
//! The lock is a robust pthread mutex, so whoever waits for a creator or a
//! remover learns of its death, and finds in the state what it left.
//!
//! # Another pid namespace
//!
//! A container ends, and its successor has another pid namespace. The lock's owner
//! is a thread id of the old one, so the lock decides nothing any more. What decides
//! is the kernel's count of attachments, which spans pid namespaces, and the state
//! word. A process P of the new namespace (a newcomer) proceeds so:
//!
//! 1. P attaches. If the count is not 1, P detaches, pauses, and tries again.
//! 2. P changes `READY` to a claim with a number that no other claim has.
//! 3. P asks for the count. If it is 1, P changes *its own claim* to `REINITIALIZING`.
//!    If the count is not 1, P changes its own claim back to `READY`.
//! 4. P makes all locks anew, and this one, poisons what was held, writes its
//!    namespace into the header, and stores `READY`.
//!
//! A process of the old namespace attaches and then loads the state, as ever. If it
//! loads `READY`, it is a user. If it loads a claim, it waits a moment, and changes
//! that claim to `READY`. If it loads `REINITIALIZING`, it detaches and comes again later.
//!
//! *Never two groups inside.* Let U be attached with the locks of the old namespace
//! when P has changed its claim to `REINITIALIZING`. U loaded `READY` while it was attached.
//! (a) U loaded it before P stored the claim. Then U was attached before P asked for
//! the count, and is still, so P counted at least 2. (b) U loaded it afterwards. Then
//! some process had replaced P's claim, and as no other claim has its number, P's
//! change to `REINITIALIZING` failed. Both contradict the assumption. After the change,
//! no process becomes a user before P stores `READY`: each loads `REINITIALIZING` and leaves the
//! locks alone. (c) Two that renew: the second counted 1 and loaded `REINITIALIZING`
//! *afterwards*. A process that renews is attached until it has stored `READY` or is
//! dead, so at the count the first was not at work, and had not stored `READY`: it was
//! dead. None began after the count, because it would have counted the second.
//!
//! *A death at any instruction.* Before step 2 nothing has changed. A claim of the
//! dead becomes `READY` by the next arrival: at once if that is alone, for the living
//! claimant would be attached, and otherwise after [`GRACE`]. That is no judgement on
//! life and death, because a claimant that is alive finds its claim replaced. From
//! `REINITIALIZING` on the count alone decides: the next process that counts 1 and still
//! finds `REINITIALIZING` does step 4 again from the beginning. Poison comes before the lock that
//! it is about is made, so it is not lost by repetition.
//!
//! *Progress.* Several newcomers see each other and take each other for users. Each
//! detaches before it pauses, for longer each time and not equally long, so one of
//! them is alone soon. The kernel has no call that waits for a count of attachments,
//! and a process that waits on a futex in the segment is attached. So the pauses are
//! timed.
//! After [`FOREIGN_NAMESPACE_TIMEOUT`] the others are taken for users: `ForeignPidNamespace`.
//!
//! A remover of another namespace does steps 1 to 3 as well and then removes the
//! segment instead of step 4.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::error::{CorruptHeader, Error, IdentityError, LockError};
use crate::os::clock::Deadline;
use crate::os::fork::ForkMarker;
use crate::os::futex::{self, Wake};
use crate::os::mem::{Access, Mapping};
use crate::os::pthread::{Outcome, Protocol};
use crate::robust::{Blocking, RobustMutex, ThreadState};
use crate::segment::failure;
use crate::segment::format::header;

/// What a new segment says.
pub(in crate::segment) const NEW: u32 = 0;
pub(in crate::segment) const INITIALIZING: u32 = 1;
pub(in crate::segment) const READY: u32 = 2;
pub(in crate::segment) const REMOVING: u32 = 3;
pub(in crate::segment) const DEAD: u32 = 4;
/// The low byte of a claim. The bytes above it are the number of the claim.
const CLAIM: u32 = 5;
pub(in crate::segment) const REINITIALIZING: u32 = 6;

/// Whether a state is a claim: see above.
pub(in crate::segment) const fn is_claim(state: u32) -> bool {
    state & 0xff == CLAIM
}

/// How long a process waits at most for another process that creates, renews or removes
/// a segment. Afterwards it returns [`Error::Unfinished`]. A creator that fills gigabytes
/// takes seconds; service managers give up on a start after 90 s.
pub(in crate::segment) const UNFINISHED_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a newcomer of another pid namespace tries to be the only one attached,
/// before it takes the others for users.
pub(in crate::segment) const FOREIGN_NAMESPACE_TIMEOUT: Duration = Duration::from_millis(250);

/// How long a creator may take from creating the segment to taking the lock
/// before others clear its segment away. Should it be alive all the same, it
/// notices and begins anew, so this is no judgement on life and death.
const GRACE: Duration = Duration::from_millis(20);

/// The live part of the header.
///
/// # Memory ordering
///
/// `READY` is stored with `Release` after all content, and read with `Acquire`
/// before any. `REMOVING` and the count of attachments, which the kernel keeps, are
/// a pair: a remover stores the one and then asks for the other, whoever arrives
/// attaches and then loads the state. So both are `SeqCst`, and at least one of
/// two who meet sees the other.
#[repr(C)]
pub(crate) struct SysvState {
    state: AtomicU32,
    /// How many claims there were; wraps around after 16 million.
    claims: AtomicU32,
    lock: RobustMutex,
}

const _: () = {
    assert!(size_of::<SysvState>() <= header::BIRTH_END - header::BIRTH_AT);
    assert!(header::BIRTH_AT.is_multiple_of(align_of::<SysvState>()));
    assert!(offset_of!(SysvState, state) == 0);
};

impl SysvState {
    /// The live part of the segment that is mapped.
    ///
    /// # Safety
    ///
    /// The mapping is at least as long as a header.
    pub(in crate::segment) unsafe fn of(mapping: &Mapping) -> &Self {
        // SAFETY: the caller's promise.
        let at = unsafe { mapping.base().add(header::BIRTH_AT) };
        // SAFETY: the place is aligned, and any bytes are valid as atomic words
        // and as an inert mutex. It is lent for as long as the mapping.
        unsafe { at.cast::<Self>().as_ref() }
    }

    pub(in crate::segment) fn state(&self) -> u32 {
        self.state.load(Ordering::SeqCst)
    }

    pub(in crate::segment) fn set_state(&self, state: u32) {
        self.state.store(state, Ordering::SeqCst);
        futex::wake(&self.state, Wake::All);
    }

    /// From `NEW` to `state`, unless somebody else was faster.
    pub(in crate::segment) fn try_leave_new(&self, state: u32) -> bool {
        self.replace(NEW, state)
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

    /// Changes `READY` to a claim that no other process has made. Returns the claim, or
    /// `None` if the state is not `READY`.
    pub(in crate::segment) fn claim(&self) -> Option<u32> {
        let number = self.claims.fetch_add(1, Ordering::SeqCst).wrapping_add(1);
        let claim = number << 8 | CLAIM;
        self.replace(READY, claim).then_some(claim)
    }

    /// Gives a creator some time to take the lock, or a remover to remove.
    pub(in crate::segment) fn wait_while(&self, state: u32, access: Access) -> Result<(), Error> {
        if access == Access::ReadOnly {
            return Ok(()); // the kernel wants to write to what one waits on
        }
        let until = Deadline::after(GRACE);
        while self.state() == state && !until.has_passed() {
            futex::wait(&self.state, state, Some(until)).map_err(failure::of("futex"))?;
        }
        Ok(())
    }

    /// Makes the lock.
    ///
    /// # Safety
    ///
    /// The segment is virgin and the caller created it, or the caller is
    /// [renewing](REINITIALIZING) it: no other process uses the lock.
    pub(in crate::segment) unsafe fn make_lock(&self) -> Result<(), Error> {
        // SAFETY: no other process uses the lock before the state changes, as the
        // caller promises. It stays where it is in the segment.
        unsafe { self.lock.init(Protocol::None) }.map_err(failure::of("pthread_mutex_init"))
    }

    /// Locks. Owner death needs no repair; the state tells how far the owner got.
    ///
    /// # Errors
    ///
    /// * [`Error::Unfinished`]: the holder keeps the lock for [`UNFINISHED_TIMEOUT`].
    /// * [`Error::Corrupt`]: it is no lock that [`make_lock`](Self::make_lock) makes.
    /// * [`LockError::Deadlock`]: this thread holds it, or the bytes say so.
    ///
    /// # Safety
    ///
    /// * The lock is made, and of our pid namespace.
    /// * All users with the right to write to the segment are trusted.
    /// * The segment stays mapped for as long as the lock is held.
    pub(in crate::segment) unsafe fn lock(&self) -> Result<Held<'_>, Error> {
        let deadline = Deadline::after(UNFINISHED_TIMEOUT);
        // SAFETY: the caller promises all three.
        let held = unsafe { self.acquire(Blocking::WaitUntil(deadline)) }?;
        held.ok_or(Error::Unfinished {
            waited: UNFINISHED_TIMEOUT,
        })
    }

    /// Locks without waiting. Returns `None` if another thread holds the lock.
    ///
    /// # Safety
    ///
    /// As for [`lock`](Self::lock).
    pub(in crate::segment) unsafe fn try_lock(&self) -> Result<Option<Held<'_>>, Error> {
        // SAFETY: the caller promises all three clauses of `lock`.
        unsafe { self.acquire(Blocking::Try) }
    }

    /// # Safety
    ///
    /// As for [`lock`](Self::lock).
    unsafe fn acquire(&self, patience: Blocking) -> Result<Option<Held<'_>>, Error> {
        ThreadState::with(|me: Result<&ThreadState, IdentityError>| {
            let me = me?;
            if !me.has_room() {
                return Err(Error::Lock(LockError::TooManyLocks));
            }
            if self.lock.is_unknown_kind(me.owner()) {
                return Err(Error::Corrupt(CorruptHeader::UnknownLock));
            }
            // SAFETY: the caller promises that the lock is made and stays mapped; `me`
            // is this thread.
            match unsafe { self.lock.lock(me.owner(), patience) } {
                Outcome::Acquired => {}
                Outcome::OwnerDied => {
                    // SAFETY: pthread has just said so to this thread.
                    unsafe { self.lock.mark_consistent(me.owner()) }
                        .map_err(failure::of("pthread_mutex_consistent"))?;
                }
                Outcome::Deadlock => return Err(Error::Lock(LockError::Deadlock)),
                Outcome::NotRecoverable => return Err(Error::Lock(LockError::NotRecoverable)),
                Outcome::Failed(code) => {
                    let source = std::io::Error::from_raw_os_error(code);
                    return Err(failure::of("pthread_mutex_lock")(source));
                }
                Outcome::Busy | Outcome::TimedOut => return Ok(None),
            }
            me.push_lock(me.first_held());
            let mark = me.marker();
            Ok(Some(Held { birth: self, mark }))
        })
    }
}

/// The lock, held. Dropping it unlocks, but not in a forked child, where the holder is
/// the parent.
pub(in crate::segment) struct Held<'a> {
    birth: &'a SysvState,
    mark: ForkMarker,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.mark.is_current() {
            return;
        }
        ThreadState::with_cached(|me| {
            // SAFETY: made, or it would not be held, and held by this thread: it does
            // not leave the function that has locked it.
            let _ = unsafe { self.birth.lock.unlock(me.owner(), || ()) };
            me.forget_lock();
        });
    }
}

/// Visits to a segment that cannot be used yet. The visitor detaches before each pause:
/// an attachment would be counted as a user.
pub(in crate::segment) struct AttachBackoff {
    begun: Deadline,
    /// When it was first found that the others may be users of another namespace.
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

    /// Whether the others that are attached may still be newcomers as this one: for
    /// [`FOREIGN_NAMESPACE_TIMEOUT`] from the first call on.
    pub(in crate::segment) fn may_retry_as_newcomer(&mut self) -> bool {
        let until = self.newcomer_until;
        let until = until.unwrap_or_else(|| Deadline::after(FOREIGN_NAMESPACE_TIMEOUT));
        self.newcomer_until = Some(until);
        !until.has_passed()
    }

    /// Waits for the next visit. Returns `false` if the visits have taken `limit`.
    pub(in crate::segment) fn pause(&mut self, limit: Duration) -> Result<bool, Error> {
        let end = self.begun.plus(limit);
        if end.has_passed() {
            return Ok(false);
        }
        // Between one and two pauses, by the process and the time: two processes that
        // met do not meet again.
        let now = Deadline::now();
        let spread = self.pause.as_micros() as u64;
        let mixed = now.mixed_with(std::process::id());
        let extra = Duration::from_micros(mixed % spread.max(1));
        let until = now.plus(self.pause + extra).min(end);
        let never_woken = AtomicU32::new(0);
        while !until.has_passed() {
            futex::wait(&never_woken, 0, Some(until)).map_err(failure::of("futex"))?;
        }
        self.pause = (self.pause * 2).min(Self::LONGEST_PAUSE);
        Ok(true)
    }
}
