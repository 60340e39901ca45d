//! `PthreadCondvar`: a `pthread_cond_t`, for sharing with C programs.

use std::fmt;
use std::io;
use std::mem::offset_of;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::mutex::ShmMutexGuard;
use super::raw_mutex::{LockToken, RawLockError, RawMutex};
use super::wait::{self, Wait, WaitTimeoutLockResult, WaitTimeoutResult};
use crate::error::{LockError, LockResult};
use crate::os::clock::Deadline;
use crate::os::private_owner;
use crate::os::pthread::PthreadCond;
use crate::shm_safe::Fingerprint;
use crate::shm_safe::TypeProperties;
use crate::shm_safe::{FieldPath, InitContext, ShmSafe, SyncKind, SyncOps, Visitor};

/// A [`pthread_cond_t`] in shared memory: process-shared, on the monotonic
/// clock. **Use [`ShmCondvar`](crate::ShmCondvar)** unless a C program must
/// wait on or signal the very same object.
///
/// [`PoisonCause`]: crate::PoisonCause
/// [`pthread_cond_t`]: https://man7.org/linux/man-pages/man3/pthread_cond_init.3p.html
///
/// # Crash behaviour
///
/// It does *not* survive its users, on any glibc:
///
/// * A waiter that is killed while it waits can make later notifiers hang for
///   ever (measured with glibc 2.36).
/// * A notifier that is killed inside `notify_*` can leave the internal lock
///   locked: everyone hangs (measured with glibc 2.36 and 2.41).
/// * A notification given to a waiter that dies before it acts is lost.
/// * When the holder of the mutex dies while the others wait, they go on
///   waiting until somebody notifies them.
/// * When C code has repaired the mutex and then dies with it, the [`PoisonCause`] that
///   a waiter gets may name the holder before it.
///
/// `ShmCondvar` is made to survive them all.
#[repr(C)]
pub struct PthreadCondvar {
    cond: PthreadCond,
    state: AtomicU32,
    _reserved: u32,
}

// It has no state that a panic could leave half-changed.
impl UnwindSafe for PthreadCondvar {}
impl RefUnwindSafe for PthreadCondvar {}

/// The object is inert bytes.
const NOT_PLACED: u32 = 0;
/// The object is alive, in shared memory. In private memory it says whose it is:
/// [`private_owner`]. Stored with `Release` after `pthread_cond_init`, loaded
/// with `Acquire` before any other call.
const PLACED: u32 = 1;

const _: () = assert!(
    offset_of!(PthreadCondvar, cond) == 0,
    "C programs use it at its address"
);

// SAFETY: repr(C) over a pthread_cond_t, whose size the header's ABI tag
// covers, and two words; any bytes are valid; reported at offset 0.
unsafe impl ShmSafe for PthreadCondvar {
    const FINGERPRINT: Fingerprint =
        Fingerprint::of("PthreadCondvar", size_of::<Self>(), align_of::<Self>());
    const SYNC_OBJECTS: usize = 1;
    const PROPERTIES: TypeProperties = TypeProperties::POD.with_interior_mutability();

    fn visit(at: &FieldPath<'_>, report: &mut Visitor<'_>) {
        report(at, &COND);
    }
}

static COND: SyncOps = SyncOps {
    kind: SyncKind::PthreadCondvar,
    size: size_of::<PthreadCondvar>(),
    init_zeroed: |at| {
        // SAFETY: by the contract of the field, the bytes are for a
        // PthreadCondvar.
        unsafe { at.cast::<PthreadCondvar>().write(PthreadCondvar::new()) };
    },
    init,
    // Nothing in it outlives its users.
    reinit: init,
    // Nobody holds a condition variable.
    is_held_by_this_process: |_| false,
};

/// Makes the object at `at` anew.
///
/// # Safety
///
/// A `PthreadCondvar` lies there and stays; nobody uses it now.
unsafe fn init(at: *mut u8, placement: InitContext) -> io::Result<()> {
    // SAFETY: the caller's promise; any bytes are a valid PthreadCondvar.
    let this = unsafe { &*at.cast::<PthreadCondvar>() };
    // SAFETY: the caller promises that it stays, and that nobody uses it.
    unsafe { this.cond.init() }?;
    let word = placement.pid_namespace;
    let state = if private_owner::is_private(word) {
        word
    } else {
        PLACED
    };
    this.state.store(state, Ordering::Release);
    Ok(())
}

impl PthreadCondvar {
    /// A condition variable that is inert until a [`Segment`](crate::Segment)
    /// or [`place_at`](crate::place_at) places it.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            cond: PthreadCond::new(),
            state: AtomicU32::new(NOT_PLACED),
            _reserved: 0,
        }
    }

    /// Whether it may be used, now that it is this process's own.
    fn is_placed(&self) -> bool {
        match self.state.load(Ordering::Acquire) {
            PLACED => true,
            word => private_owner::is_private(word) && self.adopt().is_ok(),
        }
    }

    /// Makes it this process's own, if it lies in private memory and came over a fork.
    #[cold]
    fn adopt(&self) -> io::Result<()> {
        // SAFETY: it stays where it is. Memory of this process alone, and no thread of
        // this process uses it: each comes here first, and is kept waiting by `adopt`.
        private_owner::renew_if_copied(&self.state, || unsafe { self.cond.init() })
    }

    /// Gives the mutex back, waits for a notification, and takes it again.
    ///
    /// # Errors
    ///
    /// As [`ShmCondvar::wait`](crate::ShmCondvar::wait), and
    /// [`LockError::NotPlaced`], which releases the mutex.
    pub fn wait<'a, T: ShmSafe>(
        &self,
        guard: ShmMutexGuard<'a, T>,
    ) -> LockResult<ShmMutexGuard<'a, T>> {
        wait::wait(self, guard)
    }

    /// Waits for as long as `condition` is true.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_while<'a, T: ShmSafe>(
        &self,
        guard: ShmMutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockResult<ShmMutexGuard<'a, T>> {
        wait::wait_while(self, guard, condition)
    }

    /// Waits for a notification, but no longer than `timeout`.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout<'a, T: ShmSafe>(
        &self,
        guard: ShmMutexGuard<'a, T>,
        timeout: Duration,
    ) -> WaitTimeoutLockResult<'a, T> {
        wait::wait_timeout(self, guard, timeout)
    }

    /// Waits for as long as `condition` is true, but no longer than `timeout`
    /// altogether. `timed_out()` then tells that the condition is still true.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout_while<'a, T: ShmSafe>(
        &self,
        guard: ShmMutexGuard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> WaitTimeoutLockResult<'a, T> {
        wait::wait_timeout_while(self, guard, timeout, condition)
    }

    /// Wakes one waiter, if there is any. Does nothing if this is not placed:
    /// nobody can be waiting then.
    pub fn notify_one(&self) {
        if self.is_placed() {
            // SAFETY: placed, so initialised.
            unsafe { self.cond.signal() };
        }
    }

    /// Wakes all waiters. Does nothing if this is not placed.
    pub fn notify_all(&self) {
        if self.is_placed() {
            // SAFETY: placed, so initialised.
            unsafe { self.cond.broadcast() };
        }
    }

    /// The address of the `pthread_cond_t`, for calls into C.
    #[must_use]
    pub fn as_pthread_ptr(&self) -> *mut std::ffi::c_void {
        std::ptr::from_ref(&self.cond).cast_mut().cast()
    }
}

impl Wait for PthreadCondvar {
    fn wait_raw(
        &self,
        mutex: &RawMutex,
        held: LockToken,
        deadline: Option<Deadline>,
    ) -> Result<(LockToken, WaitTimeoutResult), RawLockError> {
        if !self.is_placed() {
            if !mutex.unlock(held) {
                return Err(LockError::NotOwner);
            }
            return Err(LockError::NotPlaced);
        }
        // SAFETY: placed. glibc, which is all that this crate compiles for,
        // permits waits with different mutexes.
        let (held, timed_out) = unsafe { mutex.wait_on(&self.cond, held, deadline) }?;
        Ok((held, WaitTimeoutResult { timed_out }))
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
            .field("placed", &self.is_placed())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reviving_bears_any_bytes() {
        let placement = InitContext { pid_namespace: 1 };
        for byte in [0, 1, 0x55, 0xff] {
            let mut condvar = Box::new(PthreadCondvar::new());
            // SAFETY: any bytes are a PthreadCondvar.
            unsafe { (&raw mut *condvar).write_bytes(byte, 1) };
            let at = (&raw mut *condvar).cast();
            // SAFETY: the object is in its box, where it stays and nobody uses it.
            unsafe { (COND.reinit)(at, placement) }.expect("pthread makes it");
            assert!(condvar.is_placed());
            condvar.notify_all();
        }
    }
}
