//! The pthread objects, as they may lie in memory that processes share.
//!
//! Only glibc is supported: [`mutex::PthreadMutex::word`] reads the futex word
//! that glibc keeps at the start of a `pthread_mutex_t`. Each thread checks on
//! its first use that this is so ([`believed_tid`]).

mod attr;
pub(crate) mod cond;
pub(crate) mod mutex;

pub(crate) use attr::Protocol;
pub(crate) use cond::PthreadCond;
pub(crate) use mutex::{Outcome, Patience, PthreadMutex};

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
compile_error!("shm-sync supports Linux with glibc only: it relies on glibc's robust mutexes");

use std::io;

/// How many robust mutexes the kernel gives back for a thread that ends: it walks
/// no further (`ROBUST_LIST_LIMIT` in `linux/futex.h`).
pub(crate) const MAX_ROBUST_LOCKS: u32 = 2048;

/// A return code of the pthread family, which does not use `errno`.
fn check(code: libc::c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// The thread id that pthread would write into a mutex locked now, read back
/// from one that is. `None` if pthread can't lock at all.
///
/// After a bare `clone`, pthread still believes itself to be the parent.
pub(crate) fn believed_tid() -> Option<u32> {
    let probe = PthreadMutex::new();
    // SAFETY: `probe` is a fresh local that nobody else can see, and it does
    // not move until it is destroyed below.
    unsafe { probe.init(Protocol::None) }.ok()?;
    // SAFETY: just initialised.
    let taken = unsafe { probe.try_acquire() };
    let tid = probe.owner_tid();
    if taken == Outcome::Acquired {
        // SAFETY: initialised, and held by this thread.
        unsafe { probe.unlock() }.ok()?;
    }
    // SAFETY: initialised, and no longer held: whoever failed to lock a fresh
    // mutex has not got it either.
    unsafe { probe.destroy() };
    (taken == Outcome::Acquired).then_some(tid)
}

/// The size of a `pthread_mutex_t` in bytes.
pub(crate) const MUTEX_SIZE: u8 = size_of::<PthreadMutex>() as u8;
/// The size of a `pthread_cond_t` in bytes.
pub(crate) const COND_SIZE: u8 = size_of::<PthreadCond>() as u8;
