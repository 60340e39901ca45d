//! libc's calls for pthread objects, which may lie in memory that processes share.
//!
//! [`robust`](crate::robust) reads and writes the words of libc's mutexes. Nothing in
//! this folder does.

mod attr;
mod cond;
mod mutex;
mod outcome;
mod thread;

pub(crate) use attr::Protocol;
pub(crate) use cond::PthreadCond;
pub(crate) use mutex::PthreadMutex;
pub(crate) use outcome::Outcome;
pub(crate) use thread::own_thread_id;
#[cfg(target_env = "musl")]
pub(crate) use thread::{at_fork_in_child, own_handle};

/// The number of glibc in the header of a segment.
pub(crate) const GLIBC: u8 = 1;
/// The number of musl in the header of a segment.
pub(crate) const MUSL: u8 = 2;
/// The number of the libc for which this crate is compiled.
pub(crate) const LIBC: u8 = if cfg!(target_env = "musl") {
    MUSL
} else {
    GLIBC
};
/// The size of a `pthread_mutex_t` in bytes.
pub(crate) const MUTEX_SIZE: u8 = size_of::<PthreadMutex>() as u8;
/// The size of a `pthread_cond_t` in bytes.
pub(crate) const COND_SIZE: u8 = size_of::<PthreadCond>() as u8;
