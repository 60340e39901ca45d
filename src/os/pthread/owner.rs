//! Which thread held a mutex last, as `__owner` tells.
//!
//! The kernel takes the thread id out of the lock word when the holder dies. glibc's
//! other word, `__owner`, is not the kernel's: every locker writes its id there, C code as
//! well, and every unlock removes it. So after a death it still names the dead thread.
//!
//! That is lost where glibc gets the mutex after a death: `EOWNERDEAD` comes with an
//! `__owner` that says "inconsistent". What is done without glibc leaves `__owner` as it
//! is until [`PthreadMutex::consistent`].

use std::io;
use std::sync::atomic::Ordering;

use super::robust::{INCONSISTENT, NOT_RECOVERABLE};
use super::{Locker, PthreadMutex, check};

/// What `__owner` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastOwner {
    /// This thread has the mutex, or died with it.
    Thread(u32),
    /// It was locked after a death, and not yet made consistent.
    Inconsistent,
    /// No thread: the mutex is free or unrecoverable, or its holder died in the few
    /// instructions before it has written its id, or after it has removed it.
    NoThread,
}

impl PthreadMutex {
    /// Reads `__owner`, whatever it is.
    pub(crate) fn last_owner(&self) -> LastOwner {
        // Relaxed: the lock orders it. Without the lock it is a snapshot.
        match self.words().owner.load(Ordering::Relaxed) {
            INCONSISTENT => LastOwner::Inconsistent,
            0 | NOT_RECOVERABLE => LastOwner::NoThread,
            tid => LastOwner::Thread(tid),
        }
    }

    /// [`pthread_mutex_consistent(3)`](https://man7.org/linux/man-pages/man3/pthread_mutex_consistent.3.html):
    /// writes the caller's id to `__owner`, which is all that it does.
    ///
    /// # Safety
    ///
    /// * It is initialised, and the caller, the thread `me`, holds it after
    ///   [`Outcome::OwnerDied`](super::Outcome::OwnerDied).
    pub(crate) unsafe fn consistent(&self, me: Locker) -> io::Result<()> {
        let words = self.words();
        if !me.needs_libc_for(words) {
            words.owner.store(me.tid(), Ordering::Relaxed);
            return Ok(());
        }
        // SAFETY: initialised and held, as the caller promises; libc checks the rest.
        check(unsafe { libc::pthread_mutex_consistent(self.raw()) })
    }
}
