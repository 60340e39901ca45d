//! The thread that held a mutex last, by the word `__owner`.
//!
//! When the holder dies, the kernel removes its id from the lock word. The kernel does
//! not touch glibc's other word, `__owner`: every locker, C code included, writes its
//! id there, and every unlock removes it. So after a death `__owner` still names the
//! dead thread.
//!
//! glibc overwrites that name when it acquires the mutex after a death: with
//! `EOWNERDEAD`, `__owner` becomes "inconsistent". This crate's own way leaves
//! `__owner` as it is until
//! [`PthreadMutex::consistent`].

use std::io;
use std::sync::atomic::Ordering;

use super::robust::{INCONSISTENT, NOT_RECOVERABLE};
use super::{LockOwner, PthreadMutex, check};

/// The meaning of `__owner`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastOwner {
    /// This thread holds the mutex, or died while it held it.
    Thread(u32),
    /// glibc has acquired it after a death, and its caller has not made it consistent.
    Inconsistent,
    /// No thread: the mutex is free or unrecoverable. Or its holder died in the few
    /// instructions before it wrote its id, or after it had removed it.
    NoThread,
}

impl PthreadMutex {
    /// Reads `__owner`. Any value has a meaning.
    pub(crate) fn last_owner(&self) -> LastOwner {
        // Relaxed: the lock orders it. For a caller without the lock it is a snapshot.
        match self.glibc().owner.load(Ordering::Relaxed) {
            INCONSISTENT => LastOwner::Inconsistent,
            0 | NOT_RECOVERABLE => LastOwner::NoThread,
            tid => LastOwner::Thread(tid),
        }
    }

    /// [`pthread_mutex_consistent(3)`](https://man7.org/linux/man-pages/man3/pthread_mutex_consistent.3.html):
    /// writes the caller's id to `__owner`, and does nothing else.
    ///
    /// # Safety
    ///
    /// * The mutex is initialised.
    /// * The caller, the thread `me`, holds it after
    ///   [`Outcome::OwnerDied`](super::Outcome::OwnerDied).
    pub(crate) unsafe fn consistent(&self, me: LockOwner) -> io::Result<()> {
        let words = self.glibc();
        if !me.needs_libc_for(words) {
            words.owner.store(me.tid(), Ordering::Relaxed);
            return Ok(());
        }
        // SAFETY: initialised and held, as the caller promises; libc checks the rest.
        check(unsafe { libc::pthread_mutex_consistent(self.as_mut_ptr()) })
    }
}
