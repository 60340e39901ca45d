//! Locking by libc's functions, for a mutex or a libc whose layout is not the known
//! one.

use std::sync::atomic::Ordering;

use super::contended::{Attempt, Blocking, lock_contended};
use super::layout::{MutexWords, UNLOCKED};
use crate::os::clock::Deadline;
use crate::os::futex::{self, FUTEX_TID_MASK, Wake};
use crate::os::pthread::{Outcome, PthreadMutex};

/// Locks a mutex without priority inheritance by libc's functions. `tid` is the calling
/// thread.
///
/// When this returns [`Outcome::TimedOut`], `list_op_pending` is clear, because the
/// last call was [`PthreadMutex::trylock`]. [`PthreadMutex::clocklock`] leaves it set.
///
/// # Safety
///
/// * The mutex is initialised.
/// * It stays mapped for as long as the thread holds it.
pub(super) unsafe fn lock(mutex: &PthreadMutex, tid: u32, blocking: Blocking) -> Outcome {
    let mut attempt = LibcAttempt { mutex, tid };
    // This read spares the holder a write to its cache line. The word may name the
    // calling thread although it does not hold the mutex: see `PthreadMutex::trylock`.
    let holder = attempt.words().holder();
    if matches!(blocking, Blocking::Try) && holder != 0 && holder != tid {
        return Outcome::Busy;
    }
    lock_contended(&mut attempt, blocking)
}

/// An attempt to lock by libc's functions. [`lock`] makes it, and its caller promises
/// that the mutex is initialised and stays mapped.
struct LibcAttempt<'a> {
    mutex: &'a PthreadMutex,
    tid: u32,
}

impl Attempt for LibcAttempt<'_> {
    fn try_lock(&mut self) -> Outcome {
        // SAFETY: the mutex is initialised and stays mapped, as the caller of `lock`
        // has promised.
        match unsafe { trylock(self.mutex) } {
            Outcome::Busy | Outcome::Deadlock if self.words().holder() == self.tid => {
                Outcome::Deadlock
            }
            Outcome::Busy | Outcome::Deadlock => Outcome::Busy,
            Outcome::NotRecoverable => {
                self.release_unrecoverable();
                Outcome::NotRecoverable
            }
            outcome => outcome,
        }
    }

    fn wait(&mut self, deadline: Option<Deadline>) -> Outcome {
        let until = Deadline::next_recheck(deadline);
        // SAFETY: the mutex is initialised and stays mapped, as the caller of `lock`
        // has promised.
        unsafe { self.mutex.clocklock(until) }
    }
}

impl LibcAttempt<'_> {
    fn words(&self) -> &MutexWords {
        MutexWords::of(self.mutex)
    }

    /// Unlocks a mutex that became unrecoverable during this thread's
    /// `pthread_mutex_trylock`: glibc has left this thread's id in the lock word.
    fn release_unrecoverable(&self) {
        let word = &self.words().lock;
        // Relaxed: no thread may use the data.
        let released = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            (word & FUTEX_TID_MASK == self.tid).then_some(UNLOCKED)
        });
        if released.is_ok() {
            futex::wake(word, Wake::All);
        }
    }
}

/// Calls [`PthreadMutex::trylock`], unless the mutex is unrecoverable: glibc would
/// leave it locked.
///
/// # Safety
///
/// * The mutex is initialised.
/// * It stays mapped for as long as the thread holds it.
pub(super) unsafe fn trylock(mutex: &PthreadMutex) -> Outcome {
    if MutexWords::of(mutex).is_unrecoverable() {
        return Outcome::NotRecoverable;
    }
    // SAFETY: the mutex is initialised and stays mapped, as the caller promises.
    unsafe { mutex.trylock() }
}
