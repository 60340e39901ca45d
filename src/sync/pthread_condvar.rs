//! `PthreadCondvar`: a `pthread_cond_t`, for sharing with C programs.

use std::fmt;
use std::io;
use std::mem::offset_of;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::guard::ShmMutexGuard;
use super::raw_mutex::RawMutex;
use super::robust_lock::{LockToken, RawLockError};
use super::wait::{self, Wait, WaitTimeoutLockResult, WaitTimeoutResult, wait_methods};
use crate::error::{Error, LockError, LockResult, PoisonCause};
use crate::os::clock::Deadline;
use crate::os::private_owner;
use crate::os::pthread::PthreadCond;
use crate::shm_safe::{
    FieldPath, InitContext, Parts, ShmSafe, SyncKind, SyncOps, TearFree, TypeProperties, Visitor,
};

/// A [`pthread_cond_t`] in shared memory: process-shared, on the monotonic clock.
/// **Use [`ShmCondvar`](crate::ShmCondvar)** unless a C program must wait on or signal
/// the very same object.
///
/// [`PoisonCause`]: crate::PoisonCause
/// [`pthread_cond_t`]: https://man7.org/linux/man-pages/man3/pthread_cond_init.3p.html
///
/// ```
/// use shm_sync::{PthreadCondvar, Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let shared = Segment::anonymous((ShmMutex::new(0), PthreadCondvar::new()))?;
/// let (jobs, changed) = &*shared;
///
/// std::thread::scope(|s| {
///     s.spawn(|| -> Result<(), shm_sync::Error> {
///         *jobs.lock()? += 1;
///         changed.notify_one();
///         Ok(())
///     });
///     let jobs = changed.wait_while(jobs.lock()?, |jobs| *jobs == 0)?;
///     assert_eq!(*jobs, 1);
///     Ok(())
/// })
/// # }
/// ```
///
/// In the cookbook: [a C program](crate::guide::cookbook#a-c-program).
///
/// # Crash behaviour
///
/// It does *not* survive its users, with any libc:
///
/// * If a waiter is killed while it waits, later notifiers may hang for ever (measured
///   with glibc 2.36).
/// * If a notifier is killed inside `notify_*`, the internal lock may stay locked. Then
///   every waiter and notifier hangs (measured with glibc 2.36 and 2.41).
/// * A notification for a waiter that dies before it acts is lost.
/// * If the holder of the mutex dies, the waiters wait until the next notification.
/// * If C code has repaired the mutex and then dies with the lock held, the
///   [`PoisonCause`] that a waiter gets may name the holder before it.
///
/// [`ShmCondvar`](crate::ShmCondvar) survives all of these.
///
/// # Forks
///
/// In shared memory, a forked child may wait and notify like any process, with a guard
/// of its own. In private memory, each process initialises its own copy.
#[repr(C)]
pub struct PthreadCondvar {
    cond: PthreadCond,
    /// [`UNINIT`], [`INITIALIZED`], or the process that owns this private memory.
    state: AtomicU32,
    _reserved: AtomicU32,
}

// A panic can't leave it inconsistent, because no user code runs inside.
impl UnwindSafe for PthreadCondvar {}
impl RefUnwindSafe for PthreadCondvar {}

/// The `pthread_cond_t` is not initialised.
const UNINIT: u32 = 0;
/// The `pthread_cond_t` is initialised, in shared memory. In private memory the word
/// names the process instead: [`private_owner`]. Stored with `Release` after
/// `pthread_cond_init`, loaded with `Acquire` before any other call.
const INITIALIZED: u32 = 1;

const _: () = assert!(
    offset_of!(PthreadCondvar, cond) == 0,
    "C programs use it at its address"
);

// SAFETY: the clauses of `ShmSafe`:
// * Layout: `repr(C)` over a `pthread_cond_t`, whose size is in the header's ABI, and
//   two words. The fingerprint has the size.
// * The contents have the same meaning in every process, and there is no destructor.
// * Sync objects: itself, reported at offset 0.
// * Any bytes are valid, so zeros and mixtures are.
unsafe impl ShmSafe for PthreadCondvar {
    const PARTS: Parts = Parts::opaque("PthreadCondvar", size_of::<Self>(), align_of::<Self>());
    const SYNC_OBJECTS: usize = 1;
    const PROPERTIES: TypeProperties = TypeProperties::POD.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        visitor(at, &COND);
    }
}

// SAFETY: any bytes are valid.
unsafe impl TearFree for PthreadCondvar {}

static COND: SyncOps = SyncOps {
    kind: SyncKind::PthreadCondvar,
    size: size_of::<PthreadCondvar>(),
    init_zeroed: |at| {
        // SAFETY: the contract of the field: the bytes at `at` are for a
        // PthreadCondvar.
        unsafe { at.cast::<PthreadCondvar>().write(PthreadCondvar::new()) };
    },
    init,
    // A condition variable without users has no state to keep.
    reinit: init,
    is_held_by_this_process: |_| false,
};

/// Initialises the object at `at`. Its bytes may be any.
///
/// # Safety
///
/// * A `PthreadCondvar` is at `at`, and stays there.
/// * No thread uses it.
unsafe fn init(at: *mut u8, context: InitContext) -> io::Result<()> {
    // SAFETY: a PthreadCondvar is at `at`, as the caller promises. Any bytes are valid.
    let this = unsafe { &*at.cast::<PthreadCondvar>() };
    // SAFETY: it stays there, and no thread uses it, as the caller promises.
    unsafe { this.cond.init() }?;
    let word = context.pid_namespace;
    let state = if private_owner::is_private(word) {
        word
    } else {
        INITIALIZED
    };
    this.state.store(state, Ordering::Release);
    Ok(())
}

impl PthreadCondvar {
    /// Makes a condition variable that a [`Segment`](crate::Segment) or
    /// [`place_at`](crate::place_at) initialises later. Waiting on it before that fails
    /// with [`LockError::NotPlaced`]. [`PthreadCondvar`] has an example.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            cond: PthreadCond::new(),
            state: AtomicU32::new(UNINIT),
            _reserved: AtomicU32::new(0),
        }
    }

    /// Returns whether it is initialised. Initialises it if it is private memory that
    /// was copied by a fork.
    fn is_initialized(&self) -> bool {
        match self.state.load(Ordering::Acquire) {
            INITIALIZED => true,
            word => private_owner::is_private(word) && self.adopt().is_ok(),
        }
    }

    /// Initialises private memory that was copied by a fork.
    #[cold]
    fn adopt(&self) -> io::Result<()> {
        // SAFETY: the object was placed, and the code that placed it has promised that
        // it stays there. Only this process has this memory. No thread of it uses the
        // object, because each thread calls `renew_if_copied` first, which makes it
        // wait.
        private_owner::renew_if_copied(&self.state, || unsafe { self.cond.init() })
    }

    /// Wakes one waiter, if there is any. Does nothing if the condition variable is not
    /// placed, because no thread can wait then.
    ///
    /// # Crash behaviour
    ///
    /// It may hang for ever if another user has died: see
    /// [`PthreadCondvar`](Self#crash-behaviour). [`notify_all`](Self::notify_all) may
    /// hang, too.
    pub fn notify_one(&self) {
        if self.is_initialized() {
            // SAFETY: the condition variable is initialised.
            unsafe { self.cond.signal() };
        }
    }

    /// Wakes all waiters. Does nothing if the condition variable is not placed.
    pub fn notify_all(&self) {
        if self.is_initialized() {
            // SAFETY: the condition variable is initialised.
            unsafe { self.cond.broadcast() };
        }
    }

    /// Returns the address of the `pthread_cond_t`, for calls into C.
    ///
    /// ```
    /// use shm_sync::{PthreadCondvar, Segment};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let changed = Segment::anonymous(PthreadCondvar::new())?;
    /// let cond: *mut libc::pthread_cond_t = changed.as_pthread_ptr().cast();
    /// // SAFETY: the segment keeps the condition variable initialised and mapped.
    /// assert_eq!(unsafe { libc::pthread_cond_signal(cond) }, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn as_pthread_ptr(&self) -> *mut std::ffi::c_void {
        std::ptr::from_ref(&self.cond).cast_mut().cast()
    }
}

wait_methods!(
    PthreadCondvar,
    /// * [`LockError::NotPlaced`]: the condition variable is not placed. The mutex is
    ///   unlocked.
    /// * [`LockError::PriorityInheritance`]: the mutex is one with priority
    ///   inheritance. It is unlocked.
);

impl Wait for PthreadCondvar {
    fn wait_raw(
        &self,
        mutex: &RawMutex,
        token: LockToken,
        deadline: Option<Deadline>,
    ) -> Result<(LockToken, WaitTimeoutResult), RawLockError> {
        if !self.is_initialized() {
            if !mutex.unlock(token) {
                return Err(LockError::NotOwner);
            }
            return Err(LockError::NotPlaced);
        }
        // SAFETY: the condition variable is initialised. glibc and musl permit
        // concurrent waits with different mutexes.
        let (token, timed_out) = unsafe { mutex.wait_on(&self.cond, token, deadline) }?;
        Ok((token, WaitTimeoutResult { timed_out }))
    }
}

impl Default for PthreadCondvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for PthreadCondvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PthreadCondvar")
            .field("placed", &self.is_initialized())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn reinit_accepts_any_bytes() {
        let context = InitContext { pid_namespace: 1 };
        for byte in [0, 1, 0x55, 0xff] {
            let mut condvar = Box::new(PthreadCondvar::new());
            // SAFETY: any bytes are valid for a PthreadCondvar.
            unsafe { (&raw mut *condvar).write_bytes(byte, 1) };
            let at = (&raw mut *condvar).cast();
            // SAFETY: a PthreadCondvar is at `at`, in its box, where it stays. No
            // thread uses it.
            unsafe { (COND.reinit)(at, context) }.expect("pthread_cond_init succeeds");
            assert!(condvar.is_initialized());
            condvar.notify_all();
        }
    }

    #[test]
    fn numbers_are_documented() {
        documented::fields!(
            "PthreadCondvar",
            PthreadCondvar {
                cond,
                state,
                _reserved
            }
        );
        documented::values(
            "state of a PthreadCondvar",
            &[
                ("UNINIT", UNINIT.into()),
                ("INITIALIZED", INITIALIZED.into()),
            ],
        );
    }
}
