//! The pthread objects, as they may lie in memory that processes share.
//!
//! Only glibc is supported: [`mutex`] reads the futex word that glibc keeps at the
//! start of a `pthread_mutex_t`, and [`robust`] all the other words. Each thread checks
//! on its first use what they are ([`locker`]).

mod attr;
pub(crate) mod cond;
mod held;
mod inheriting;
mod locker;
pub(crate) mod mutex;
mod owner;
mod robust;

pub(crate) use attr::Protocol;
pub(crate) use cond::PthreadCond;
pub(crate) use held::Position;
pub(crate) use locker::LockOwner;
pub(crate) use mutex::{Blocking, Outcome, PthreadMutex};
pub(crate) use owner::LastOwner;
pub(crate) use robust::{Entry, RobustList};

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
compile_error!("shm-sync supports Linux with glibc only: it relies on glibc's robust mutexes");

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "shm-sync supports 64-bit machines only: it knows glibc's mutexes as they are there"
);

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

/// The size of a `pthread_mutex_t` in bytes.
pub(crate) const MUTEX_SIZE: u8 = size_of::<PthreadMutex>() as u8;
/// The size of a `pthread_cond_t` in bytes.
pub(crate) const COND_SIZE: u8 = size_of::<PthreadCond>() as u8;
