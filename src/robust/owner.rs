//! A thread as the owner of robust mutexes.

use std::ptr;

use super::layout::{Entry, GlibcMutex, KIND_PSHARED_ROBUST_ERRORCHECK, KIND_PSHARED_ROBUST_PI};
use super::list::{HeldLocks, RobustList};
use crate::error::IdentityError;
use crate::os::pthread::{Outcome, Protocol, PthreadMutex};
use crate::os::robust_list;

/// The calling thread as a holder: its id and its robust list.
///
/// It is not `Send`, and it is invalid in a forked child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockOwner {
    tid: u32,
    /// The locks that the thread holds.
    held: Option<HeldLocks>,
    /// The thread's list, if glibc's layout is the known one. `None`: libc must lock
    /// and unlock for this thread, which can't lock with priority inheritance.
    list: Option<RobustList>,
}

/// How a thread locks and unlocks one mutex. It stays the same for as long as the mutex
/// is initialised.
#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    /// This crate writes the words ([`lock`](super::lock)).
    List(RobustList),
    /// This crate writes the words, and the kernel assigns a contended mutex
    /// ([`pi`](super::pi)).
    PriorityInheritance(RobustList),
    /// libc does it ([`fallback`](super::fallback)).
    Libc,
}

impl LockOwner {
    /// No thread.
    pub(super) const NONE: Self = Self {
        tid: 0,
        held: None,
        list: None,
    };

    /// Returns the calling thread, `tid`, if it can own robust mutexes. It can, if a
    /// list is registered with the kernel, and if a mutex that libc locks names `tid`.
    ///
    /// libc registers the list, at thread start and after `fork`. After a bare `clone`
    /// there is no list, and libc still has the parent's identity.
    ///
    /// # Errors
    ///
    /// * [`IdentityError::NoRobustLists`]: the system has no robust lists, or refuses
    ///   the calls.
    /// * [`IdentityError::RawClone`]: this thread has no list, or libc has another
    ///   thread's identity.
    pub(super) fn of_this_thread(tid: u32) -> Result<Self, IdentityError> {
        let head = robust_list::head_of_this_thread().map_err(IdentityError::NoRobustLists)?;
        let Some(head) = head else {
            robust_list::check_registration().map_err(IdentityError::NoRobustLists)?;
            return Err(IdentityError::RawClone);
        };
        let probe = PthreadMutex::new();
        // SAFETY: no other thread knows this new mutex, so no thread uses, holds or
        // awaits it. It does not move until it is destroyed below.
        unsafe { probe.init(Protocol::None) }.map_err(IdentityError::NoRobustLists)?;
        // SAFETY: the mutex is initialised, and outlives the lock.
        let locked = unsafe { probe.trylock() } == Outcome::Acquired;
        let words = GlibcMutex::of(&probe);
        let is_same_thread = locked && words.holder() == tid;
        // SAFETY: the kernel has just returned `head` for this thread.
        let list = unsafe { RobustList::verify(head, words, tid) };
        if locked {
            // SAFETY: the mutex is initialised.
            unsafe { probe.unlock() };
        }
        // SAFETY: the mutex is initialised. No thread holds it: this thread has
        // unlocked it or failed to lock it.
        unsafe { probe.destroy() };
        if !is_same_thread {
            return Err(IdentityError::RawClone);
        }
        // SAFETY: the kernel has just returned `head` for this thread. A `LockOwner` is
        // not `Send`, and a forked child makes its own.
        let held = Some(unsafe { HeldLocks::new(head) });
        Ok(Self { tid, held, list })
    }

    #[inline]
    pub(super) fn tid(self) -> u32 {
        self.tid
    }

    /// Returns the thread's list, if the method for `mutex` is [`Method::List`].
    #[inline]
    pub(super) fn robust_list_for(self, mutex: &GlibcMutex) -> Option<RobustList> {
        self.list
            .filter(|_| mutex.kind() == KIND_PSHARED_ROBUST_ERRORCHECK)
    }

    /// Returns how this thread locks and unlocks `mutex`.
    #[inline]
    pub(super) fn method_for(self, mutex: &GlibcMutex) -> Method {
        match (self.list, mutex.kind()) {
            (Some(list), KIND_PSHARED_ROBUST_ERRORCHECK) => Method::List(list),
            (Some(list), KIND_PSHARED_ROBUST_PI) => Method::PriorityInheritance(list),
            _ => Method::Libc,
        }
    }

    /// Returns whether glibc's layout is the known one.
    pub(super) fn knows_layout(self) -> bool {
        self.list.is_some()
    }

    /// Returns the first entry of the thread's list, or null for [`NONE`](Self::NONE).
    #[inline]
    pub(super) fn first_held(self) -> Entry {
        self.held.map_or(ptr::null_mut(), HeldLocks::first)
    }

    /// Counts the robust locks that the thread holds, those of other code included, up
    /// to the number that the kernel recovers.
    #[cold]
    pub(super) fn count_held(self) -> u32 {
        self.held.map_or(0, HeldLocks::count)
    }

    /// Returns the same thread, for which libc must lock and unlock.
    #[cfg(test)]
    pub(super) fn without_layout(self) -> Self {
        Self { list: None, ..self }
    }
}
