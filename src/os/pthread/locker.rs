//! Who locks: a thread, as its robust mutexes know it.

use std::ptr::{self, NonNull};

use super::attr::Protocol;
use super::mutex::{Outcome, PthreadMutex};
use super::robust::{RobustList, Words};

/// The calling thread. It is not `Send`, and in a forked child no longer true.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Locker {
    tid: u32,
    /// What makes libc unnecessary, if its inside is as it is known here.
    list: Option<RobustList>,
}

impl Locker {
    /// No thread at all.
    pub(crate) const NOBODY: Self = Self { tid: 0, list: None };

    /// The calling thread, whose id is `tid`, if libc and the kernel agree that it can
    /// hold robust mutexes: a list of them is registered with the kernel, and a mutex
    /// that libc locks says `tid`.
    ///
    /// It is libc that tells the kernel of the list, at thread start and after `fork`.
    /// After a bare `clone` nobody does, and libc still believes to be the parent.
    pub(crate) fn of_this_thread(tid: u32) -> Option<Self> {
        let head = registered_head()?;
        let probe = PthreadMutex::new();
        // SAFETY: `probe` is a fresh local that nobody else can see, and it does
        // not move until it is destroyed below.
        unsafe { probe.init(Protocol::None) }.ok()?;
        // SAFETY: just initialised.
        let taken = unsafe { probe.try_by_libc() } == Outcome::Acquired;
        let is_me = taken && probe.owner_tid() == tid;
        // SAFETY: the kernel has just named it.
        let list = unsafe { RobustList::checked(head, probe.words(), tid) };
        if taken {
            // SAFETY: initialised, and held by this thread.
            unsafe { probe.unlock_by_libc() };
        }
        // SAFETY: initialised, and no longer held: whoever failed to lock a fresh
        // mutex has not got it either.
        unsafe { probe.destroy() };
        is_me.then_some(Self { tid, list })
    }

    #[inline]
    pub(crate) fn tid(self) -> u32 {
        self.tid
    }

    /// The same thread, which leaves everything to libc.
    #[cfg(test)]
    pub(super) fn through_libc(self) -> Self {
        Self { list: None, ..self }
    }

    #[cfg(test)]
    pub(super) fn knows_its_list(self) -> bool {
        self.list.is_some()
    }

    /// The list for `mutex`, if libc is not needed for it.
    #[inline]
    pub(super) fn list_for(self, mutex: &Words) -> Option<RobustList> {
        self.list.filter(|list| list.can_hold(mutex))
    }

    /// The list for `mutex`, if it inherits priorities and is of the kind known here.
    #[inline]
    pub(super) fn inheriting_list_for(self, mutex: &Words) -> Option<RobustList> {
        self.list.filter(|list| list.can_hold_inheriting(mutex))
    }
}

/// [`get_robust_list(2)`](https://man7.org/linux/man-pages/man2/get_robust_list.2.html):
/// where the calling thread keeps its robust mutexes, if the kernel knows.
fn registered_head() -> Option<NonNull<()>> {
    let mut head: *mut () = ptr::null_mut();
    let mut len: libc::size_t = 0;
    // SAFETY: both out-pointers are valid for writes of their types; 0 names
    // the calling thread.
    let rc = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    NonNull::new(head).filter(|_| rc == 0)
}
