//! The live part of a System V segment's header: where it is in its life.
//!
//! A System V key can't be given to a segment that is complete: it leads to zeros
//! at first. So the segment itself says how far it is.
//!
//! | state | meaning | the lock |
//! |---|---|---|
//! | [`VIRGIN`] | new: its creator is about to take the lock, or died before | not made yet |
//! | [`GESTATING`] | the creator fills it | held by the creator |
//! | [`BORN`] | complete | free |
//! | [`LEAVING`] | somebody looks whether it is abandoned, and removes it if so | held by that one |
//! | [`DEAD`] | it has lost its key, or is about to: look the key up again | any; not made if `VIRGIN` came before |
//!
//! The lock is a robust pthread mutex, so whoever waits for a creator or a
//! remover learns of its death, and finds in the state what it left.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{failure, header};
use crate::error::{Error, IdentityError};
use crate::os::clock::Deadline;
use crate::os::futex::{self, Wake};
use crate::os::mman::{Access, Mapping};
use crate::os::process::Thread;
use crate::os::pthread::{Outcome, Patience, Protocol, PthreadMutex};

/// What a new segment says.
pub(super) const VIRGIN: u32 = 0;
pub(super) const GESTATING: u32 = 1;
pub(super) const BORN: u32 = 2;
pub(super) const LEAVING: u32 = 3;
pub(super) const DEAD: u32 = 4;

/// How long a creator may take from creating the segment to taking the lock
/// before others clear its segment away. Should it be alive all the same, it
/// notices and begins anew, so this is no judgement on life and death.
const GRACE: Duration = Duration::from_millis(20);

/// The live part of the header.
///
/// # Memory ordering
///
/// `BORN` is stored with `Release` after all content, and read with `Acquire`
/// before any. `LEAVING` and the count of attachments, which the kernel keeps, are
/// a pair: a remover stores the one and then asks for the other, whoever arrives
/// attaches and then loads the state. So both are `SeqCst`, and at least one of
/// two who meet sees the other.
#[repr(C)]
pub(crate) struct Birth {
    state: AtomicU32,
    _reserved: u32,
    lock: PthreadMutex,
}

const _: () = {
    assert!(size_of::<Birth>() <= header::BIRTH_END - header::BIRTH_AT);
    assert!(header::BIRTH_AT.is_multiple_of(align_of::<Birth>()));
    assert!(offset_of!(Birth, state) == 0);
};

impl Birth {
    /// The live part of the segment that is mapped.
    ///
    /// # Safety
    ///
    /// The mapping is at least as long as a header.
    pub(super) unsafe fn of(mapping: &Mapping) -> &Self {
        // SAFETY: the caller's promise.
        let at = unsafe { mapping.base().add(header::BIRTH_AT) };
        // SAFETY: the place is aligned, and any bytes are valid as atomic words
        // and as an inert mutex. It is lent for as long as the mapping.
        unsafe { at.cast::<Self>().as_ref() }
    }

    pub(super) fn state(&self) -> u32 {
        self.state.load(Ordering::SeqCst)
    }

    pub(super) fn set_state(&self, state: u32) {
        self.state.store(state, Ordering::SeqCst);
        futex::wake(&self.state, Wake::All);
    }

    /// From `VIRGIN` to `state`, unless somebody else was faster.
    pub(super) fn leave_virginity(&self, state: u32) -> bool {
        let changed =
            self.state
                .compare_exchange(VIRGIN, state, Ordering::SeqCst, Ordering::SeqCst);
        futex::wake(&self.state, Wake::All);
        changed.is_ok()
    }

    /// Gives a creator some time to take the lock, or a remover to remove.
    pub(super) fn wait_while(&self, state: u32, access: Access) -> Result<(), Error> {
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
    /// The segment is virgin, and the caller created it.
    pub(super) unsafe fn make_lock(&self) -> Result<(), Error> {
        // SAFETY: the caller's promise: nobody else uses it before the state
        // changes. It stays where it is in the segment.
        unsafe { self.lock.init(Protocol::None) }.map_err(failure::of("pthread_mutex_init"))
    }

    /// Takes the lock. The dead leave nothing that the state does not tell.
    ///
    /// # Safety
    ///
    /// The lock is made, and of our pid namespace; the segment stays mapped for
    /// as long as it is held.
    pub(super) unsafe fn lock(&self) -> Result<Held<'_>, Error> {
        Thread::with(|me: Result<&Thread, IdentityError>| {
            let me = me?;
            if !me.has_room() {
                return Err(Error::TooManyLocks);
            }
            // SAFETY: the caller's promise.
            match unsafe { self.lock.acquire(me.locker(), Patience::Forever) } {
                Outcome::Acquired => {}
                Outcome::OwnerDied => {
                    // SAFETY: pthread has just said so to this thread.
                    unsafe { self.lock.consistent(me.locker()) }
                        .map_err(failure::of("pthread_mutex_consistent"))?;
                }
                Outcome::Deadlock => return Err(Error::Deadlock),
                Outcome::NotRecoverable => return Err(Error::NotRecoverable),
                Outcome::Failed(code) => {
                    let source = std::io::Error::from_raw_os_error(code);
                    return Err(failure::of("pthread_mutex_lock")(source));
                }
                Outcome::Busy | Outcome::TimedOut => return Err(Error::WouldBlock),
            }
            me.lock_taken(me.locker().first_held());
            Ok(Held { birth: self })
        })
    }
}

/// The lock, held. Given back when dropped.
pub(super) struct Held<'a> {
    birth: &'a Birth,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        Thread::with_unchecked(|me| {
            // SAFETY: made, or it would not be held, and held by this thread: it does
            // not leave the function that has locked it.
            let _ = unsafe { self.birth.lock.unlock(me.locker()) };
            me.lock_gone();
        });
    }
}
