//! A thread as the owner of robust mutexes.

use std::ptr::{self, NonNull};

#[cfg(target_env = "musl")]
use super::forked_child;
use super::layout::{
    Entry, KIND_PSHARED_ROBUST_ERRORCHECK, MutexWords, REGISTERS_AT_FIRST_LOCK, entry_at,
};
use super::list::{HeldLocks, RobustList};
use crate::error::IdentityError;
use crate::os::pthread::{self, Outcome, Protocol, PthreadMutex};
use crate::os::robust_list::{self, RobustListHead};

/// The calling thread as a holder: its id and its robust list.
///
/// It is not `Send`, and it is invalid in a forked child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockOwner {
    tid: u32,
    /// The locks that the thread holds.
    held: Option<HeldLocks>,
    /// The thread's list, if libc's layout is the known one. `None`: libc must lock
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

/// Returns the head of the list that the kernel has for the calling thread.
fn head_of_this_thread() -> Result<Option<NonNull<RobustListHead>>, IdentityError> {
    robust_list::head_of_this_thread().map_err(IdentityError::NoRobustLists)
}

/// Returns why the kernel has no list for the calling thread.
#[cold]
fn why_no_list() -> IdentityError {
    match robust_list::check_registration() {
        Ok(()) => IdentityError::RawClone,
        Err(error) => IdentityError::NoRobustLists(error),
    }
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
    /// glibc registers the list when a thread begins and in a forked child, musl at the
    /// first lock. After a bare `clone` there is no list, and libc still has the
    /// parent's identity.
    ///
    /// `before` is the same thread before a fork, or [`NONE`](Self::NONE).
    ///
    /// # Errors
    ///
    /// * [`IdentityError::NoRobustLists`]: the system has no robust lists, or refuses
    ///   the calls.
    /// * [`IdentityError::RawClone`]: this thread has no list, or libc has another
    ///   thread's identity.
    pub(super) fn of_this_thread(
        tid: u32,
        #[cfg_attr(target_env = "gnu", expect(unused_variables))] before: Self,
    ) -> Result<Self, IdentityError> {
        let registered = head_of_this_thread()?;
        if registered.is_none() {
            if !REGISTERS_AT_FIRST_LOCK {
                return Err(why_no_list());
            }
            // Only libc's first lock may register the list, and a lock of a raw clone
            // would change the list of the parent.
            if pthread::own_thread_id() != Some(tid) {
                return Err(IdentityError::RawClone);
            }
            #[cfg(target_env = "musl")]
            if let Some(held) = before.held {
                // SAFETY: the kernel has no list of this thread, so this crate has
                // locked nothing since the fork. `before` is the same thread.
                unsafe { forked_child::empty_unless_handled(held, tid) };
            }
        }
        let probe = PthreadMutex::new();
        // SAFETY: no other thread knows this new mutex, so no thread uses, holds or
        // awaits it. It does not move until it is destroyed below.
        unsafe { probe.init(Protocol::None) }.map_err(IdentityError::NoRobustLists)?;
        // SAFETY: the mutex is initialised, and outlives the lock.
        let locked = unsafe { probe.trylock() } == Outcome::Acquired;
        let words = MutexWords::of(&probe);
        let is_same_thread = locked && words.holder() == tid;
        let head = match registered {
            Some(head) => Ok(head),
            None => head_of_this_thread().and_then(|head| head.ok_or_else(why_no_list)),
        };
        let list = head.as_ref().ok().and_then(|&head| {
            // SAFETY: the kernel has just returned `head` for this thread.
            unsafe { RobustList::verify(head, words, tid) }
        });
        if locked {
            // SAFETY: the mutex is initialised.
            unsafe { probe.unlock() };
        }
        // SAFETY: the mutex is initialised. No thread holds it: this thread has
        // unlocked it or failed to lock it.
        unsafe { probe.destroy() };
        let head = head?;
        if !is_same_thread {
            return Err(IdentityError::RawClone);
        }
        #[cfg(target_env = "musl")]
        forked_child::prepare(head).map_err(IdentityError::NoForkDetection)?;
        // SAFETY:
        // * Head: the kernel has just returned it for this thread, for which libc has
        //   registered it.
        // * Use: a `LockOwner` is not `Send`. A forked child makes its own, and uses
        //   this one only to forget the mutexes of its parent.
        let held = Some(unsafe { HeldLocks::new(head) });
        Ok(Self { tid, held, list })
    }

    #[inline]
    pub(super) fn tid(self) -> u32 {
        self.tid
    }

    /// Returns the thread's list, if the method for `mutex` is [`Method::List`].
    #[inline]
    pub(super) fn robust_list_for(self, mutex: &MutexWords) -> Option<RobustList> {
        self.list
            .filter(|_| mutex.kind() == KIND_PSHARED_ROBUST_ERRORCHECK)
    }

    /// Returns how this thread locks and unlocks `mutex`.
    #[inline]
    pub(super) fn method_for(self, mutex: &MutexWords) -> Method {
        match (self.list, mutex.kind()) {
            (Some(list), KIND_PSHARED_ROBUST_ERRORCHECK) => Method::List(list),
            (Some(list), _) if mutex.is_robust_pi() => Method::PriorityInheritance(list),
            _ => Method::Libc,
        }
    }

    /// Returns whether libc's layout is the known one.
    pub(super) fn knows_layout(self) -> bool {
        self.list.is_some()
    }

    /// Returns the first entry of the thread's list, or null for [`NONE`](Self::NONE).
    #[inline]
    pub(super) fn first_held(self) -> Entry {
        self.held.map_or(ptr::null_mut(), HeldLocks::first)
    }

    /// Returns whether `mutex` is the first entry of the thread's list: the thread
    /// holds it, and has locked no other since. Returns `false` if libc's layout is
    /// unknown. The mutex may be unmapped.
    pub(super) fn holds_as_first(self, mutex: *const MutexWords) -> bool {
        self.list
            .is_some_and(|list| list.first() == entry_at(mutex))
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
