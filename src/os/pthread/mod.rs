//! libc's calls for pthread objects, which may lie in memory that processes share.
//!
//! Only glibc is supported, because [`robust`](crate::robust) reads and writes the
//! words of glibc's mutexes. Nothing in this folder does.

mod attr;
mod cond;
mod mutex;
mod outcome;

pub(crate) use attr::Protocol;
pub(crate) use cond::PthreadCond;
pub(crate) use mutex::PthreadMutex;
pub(crate) use outcome::Outcome;

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
compile_error!("shm-sync supports Linux with glibc only: it relies on glibc's robust mutexes");

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "shm-sync supports 64-bit machines only: it knows glibc's mutexes as they are there"
);

/// The size of a `pthread_mutex_t` in bytes.
pub(crate) const MUTEX_SIZE: u8 = size_of::<PthreadMutex>() as u8;
/// The size of a `pthread_cond_t` in bytes.
pub(crate) const COND_SIZE: u8 = size_of::<PthreadCond>() as u8;
