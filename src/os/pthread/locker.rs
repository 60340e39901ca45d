//! Who locks: a thread, as its robust mutexes know it.

use std::io;
use std::ptr::{self, NonNull};

use super::attr::Protocol;
use super::held::HeldList;
use super::mutex::{Outcome, PthreadMutex};
use super::robust::{GlibcMutex, RobustList, RobustListHead};
use crate::error::IdentityError;

/// The calling thread. It is not `Send`, and in a forked child no longer true.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockOwner {
    tid: u32,
    /// What the thread holds, as the kernel sees it.
    held: Option<HeldList>,
    /// What makes libc unnecessary, if its inside is as it is known here.
    list: Option<RobustList>,
}

impl LockOwner {
    /// No thread at all.
    pub(crate) const NONE: Self = Self {
        tid: 0,
        held: None,
        list: None,
    };

    /// The calling thread, whose id is `tid`, if libc and the kernel agree that it can
    /// hold robust mutexes: a list of them is registered with the kernel, and a mutex
    /// that libc locks says `tid`.
    ///
    /// It is libc that tells the kernel of the list, at thread start and after `fork`.
    /// After a bare `clone` nobody does, and libc still believes to be the parent.
    ///
    /// # Errors
    ///
    /// * [`IdentityError::NoRobustLists`]: the system has none, or refuses the calls.
    /// * [`IdentityError::RawClone`]: it has, but this thread has none, or libc takes it
    ///   for another thread.
    pub(crate) fn of_this_thread(tid: u32) -> Result<Self, IdentityError> {
        let head = robust_list_head().map_err(IdentityError::NoRobustLists)?;
        let Some(head) = head else {
            may_register_none().map_err(IdentityError::NoRobustLists)?;
            return Err(IdentityError::RawClone);
        };
        let probe = PthreadMutex::new();
        // SAFETY: `probe` is a fresh local that nobody else can see, and it does
        // not move until it is destroyed below.
        unsafe { probe.init(Protocol::None) }.map_err(IdentityError::NoRobustLists)?;
        // SAFETY: just initialised.
        let taken = unsafe { probe.trylock() } == Outcome::Acquired;
        let is_me = taken && probe.owner_tid() == tid;
        // SAFETY: the kernel has just named it.
        let list = unsafe { RobustList::verify(head, probe.glibc(), tid) };
        if taken {
            // SAFETY: initialised, and held by this thread.
            unsafe { probe.unlock_with_libc() };
        }
        // SAFETY: initialised, and no longer held: whoever failed to lock a fresh
        // mutex has not got it either.
        unsafe { probe.destroy() };
        if !is_me {
            return Err(IdentityError::RawClone);
        }
        // SAFETY: the kernel has just named it; a `LockOwner` is not `Send`, and a forked
        // child makes its own.
        let held = Some(unsafe { HeldList::new(head) });
        Ok(Self { tid, held, list })
    }

    #[inline]
    pub(crate) fn tid(self) -> u32 {
        self.tid
    }

    #[inline]
    pub(super) fn held(self) -> Option<HeldList> {
        self.held
    }

    /// The same thread, which leaves everything to libc.
    #[cfg(test)]
    pub(super) fn without_list(self) -> Self {
        Self { list: None, ..self }
    }

    #[cfg(test)]
    pub(super) fn knows_its_list(self) -> bool {
        self.list.is_some()
    }

    /// The list for `mutex`, if libc is not needed for it.
    #[inline]
    pub(super) fn robust_list_for(self, mutex: &GlibcMutex) -> Option<RobustList> {
        self.list.filter(|list| list.supports(mutex))
    }

    /// The list for `mutex`, if it inherits priorities and is of the kind known here.
    #[inline]
    pub(super) fn pi_list_for(self, mutex: &GlibcMutex) -> Option<RobustList> {
        self.list.filter(|list| list.supports_pi(mutex))
    }

    /// Returns whether `mutex` is of a kind that [`init`](PthreadMutex::init) never
    /// makes. Returns `false` where this glibc's layout is not known.
    pub(super) fn knows_to_be_strange(self, mutex: &GlibcMutex) -> bool {
        self.list.is_some() && self.needs_libc_for(mutex)
    }

    /// Whether libc must lock `mutex`, because this crate does not know how.
    pub(super) fn needs_libc_for(self, mutex: &GlibcMutex) -> bool {
        self.robust_list_for(mutex).is_none() && self.pi_list_for(mutex).is_none()
    }
}

/// [`get_robust_list(2)`](https://man7.org/linux/man-pages/man2/get_robust_list.2.html):
/// where the calling thread keeps its robust mutexes. `None`: the
/// kernel was not told.
fn robust_list_head() -> io::Result<Option<NonNull<()>>> {
    let mut head: *mut () = ptr::null_mut();
    let mut len: libc::size_t = 0;
    // SAFETY: both out-pointers are valid for writes of their types; 0 names
    // the calling thread.
    let rc = unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    match rc {
        0 => Ok(NonNull::new(head)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `set_robust_list(2)` of no list, in a thread that has none: whether a list could be
/// registered. libc ignores it if not.
fn may_register_none() -> io::Result<()> {
    let none = ptr::null::<RobustListHead>();
    // SAFETY: the kernel notes that there is no list, which is so.
    let rc = unsafe { libc::syscall(libc::SYS_set_robust_list, none, size_of::<RobustListHead>()) };
    match rc {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
