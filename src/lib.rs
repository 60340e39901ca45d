//! Locks that live in shared memory and survive the processes that use them.
//!
//! Processes that share memory need mutual exclusion, and a way to wait that is
//! not polling. This crate gives them [`ShmMutex`], a robust `pthread_mutex_t`
//! with the data inside, and [`ShmCondvar`], which waits on a futex, in
//! [`Segment`]s of typed shared memory. A process may be killed at any
//! instruction: the others go on, and are told.
//!
//! ```
//! use shm_sync::{Error, LockError, Segment, ShmMutex};
//!
//! fn main() -> Result<(), Error> {
//!     # let name = &format!("/shm-sync-doc-lib-{}", std::process::id());
//!     # stringify!(
//!     let name = "/visits";
//!     # );
//!     let visits = Segment::open_or_create(name, || ShmMutex::new(0_u64))?;
//!     let mut count = match visits.lock() {
//!         Ok(guard) => guard,
//!         // The last holder died or panicked halfway: repair, and go on.
//!         Err(LockError::Poisoned(poisoned)) => poisoned.recover(|count| *count = 0),
//!         Err(other) => return Err(other.into()),
//!     };
//!     *count += 1;
//!     println!("visit number {count}");
//!     # drop(count);
//!     # shm_sync::unlink(name)?;
//!     Ok(())
//! }
//! ```
//!
//! # What is where
//!
//! * [`ShmSafe`], and `#[derive(ShmSafe)]`: what may live in shared memory.
//! * [`Segment`]: a value of such a type in shared memory, created whole and
//!   checked before it is opened. [`Address`] has the kinds of memory,
//!   [`SegmentOptions`] the choices, [`SegmentContent`] what fits in.
//! * [`ReadOnly`], [`Snapshot`]: looking without disturbing.
//! * [`ShmMutex`], [`ShmCondvar`]: locking and waiting.
//! * [`LockError`], [`Poisoned`]: what a lock says when somebody died.
//! * [`PthreadCondvar`]: for sharing with C; not crash-safe.
//! * [`inspect`]: reading any segment without knowing its type; the tool `shm-sync`
//!   (feature `cli`) prints it.
//!
//! # What is asked of the platform
//!
//! 64-bit Linux, glibc 2.30 or later, `/proc` and `/dev/shm` mounted. It runs on Linux
//! 4.14 and later, but the crash promises are the kernel's to keep, and it has
//! learned: before 5.18, processes killed for want of memory may lose their locks
//! (the reaper took the memory before the locks were released; since then it
//! waits two seconds), and before 6.2, unless patched, a waiter killed just as it
//! is woken may take the wakeup with it ("futex: Resend potentially swallowed
//! owner death notification"), so that the next goes on up to 150 ms later. Measured
//! with Linux 6.18, glibc 2.36 and 2.41.
//!
//! # Fork
//!
//! Locks, segments and condition variables may be used on both sides of a
//! `fork`. A bare `clone` system call leaves pthread with the parent's identity;
//! a process made by it, with memory of its own, is refused
//! ([`IdentityError::RawClone`]). Don't fork from a signal handler that may have
//! interrupted one of this crate's functions.
//!
//! # Emulators and sandboxes
//!
//! Locks need the kernel's robust lists. Where `get_robust_list(2)` or
//! `set_robust_list(2)` is missing or refused (qemu-user, some seccomp policies), segments
//! can be read only: [`IdentityError::NoRobustLists`].

// The derive macro names this crate by its name, also inside this crate.
#[cfg(test)]
extern crate self as shm_sync;

// The floors, bottom up, are in docs/design.md. tests/architecture.rs checks them.
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod init;
pub mod inspect;
mod os;
mod printable;
mod read_only;
mod segment;
mod shm_safe;
mod sync;

pub use error::{
    Abi, CorruptHeader, Error, IdentityError, Layout, LockError, LockResult, NameError,
    PoisonCause, Poisoned, Unsupported,
};
pub use init::place_at;
pub use read_only::ReadOnly;
pub use segment::{
    Address, Backing, CoreDump, IfAbandoned, Pages, ReadOnlySegment, Removal, Residency, Segment,
    SegmentContent, SegmentOptions, Snapshot, SystemVStatus, VariableLength, WithTail, unlink,
};
pub use shm_safe::{CachePadded, Fingerprint, ShmSafe};
pub use sync::{
    Holder, MAX_LOCKS_HELD, PthreadCondvar, ShmCondvar, ShmMutex, ShmMutexGuard,
    WaitTimeoutLockResult, WaitTimeoutResult,
};

#[cfg(feature = "derive")]
pub use shm_sync_derive::ShmSafe;

/// Compiles and runs the example of the README as a test.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// What the code of the derive macro uses, and nothing else does.
#[doc(hidden)]
pub mod __private {
    pub use crate::shm_safe::{FieldPath, SyncKind, SyncOps, TypeOf, TypeProperties, Visitor, sum};
}
