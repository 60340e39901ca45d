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

// Lets the derive macro name this crate inside this crate.
#[cfg(test)]
extern crate self as shm_sync;

// The floors, bottom up: fingerprint, nature and printable side by side, error, os,
// shm_safe, place, and then sync and segment side by side (tests/architecture.rs).
mod error;
mod init;
pub mod inspect;
mod os;
mod printable;
mod read_only;
mod robust;
mod segment;
mod shm_safe;
mod sync;

pub use error::{
    Abi, CorruptHeader, Error, IdentityError, Layout, LockError, LockResult, NameError,
    PoisonCause, Poisoned, Unsupported,
};
pub use init::place_at;
pub use segment::{
    Address, Backing, CoreDump, IfAbandoned, Pages, ReadOnlySegment, Removal, Residency, Segment,
    SegmentContent, SegmentOptions, Snapshot, SystemVStatus, VariableLength, WithTail, unlink,
};
pub use shm_safe::{CachePadded, Fingerprint, ShmSafe};
pub use sync::{
    Holder, MAX_LOCKS_HELD, PthreadCondvar, ShmCondvar, ShmMutex, ShmMutexGuard,
    WaitTimeoutLockResult, WaitTimeoutResult,
};

pub use read_only::ReadOnly;

#[cfg(feature = "derive")]
pub use shm_sync_derive::ShmSafe;

/// The README's example is a test, too.
#[cfg(all(doctest, feature = "derive"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// What the derive macro writes, and nobody else should.
#[doc(hidden)]
pub mod __private {
    pub use crate::shm_safe::{FieldPath, SyncKind, SyncOps, TypeOf, TypeProperties, Visitor, sum};
}

/// What the fuzzer calls: see `fuzz/`.
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod __fuzzing {
    use crate::segment::internals::{HEADER_LEN, Header, parse_directory};

    /// Where the origin lies in a header.
    const ORIGIN: std::ops::Range<usize> = 104..144;

    /// Whatever passes for a header keeps its promises.
    pub fn header(bytes: &[u8], object_len: u64) {
        let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else {
            return;
        };
        if let Ok(header) = Header::parse(bytes, object_len) {
            let after_directory = HEADER_LEN as u64 + u64::from(header.directory_len);
            let end = header.value_offset.checked_add(header.layout.size).unwrap();
            assert!(after_directory <= header.value_offset && end <= object_len);
            assert!(header.value_offset.is_multiple_of(header.layout.align));
            let _ = header.check_abi();
            let again = header.to_bytes();
            assert_eq!(again[ORIGIN], bytes[ORIGIN]);
            assert_eq!(Header::parse(&again, object_len).unwrap(), header);
            assert!(header.origin.is(header.origin));
        }
    }

    /// Whatever passes for a directory leads to places inside the value.
    pub fn directory(bytes: &[u8], value_size: u64, path: &str) {
        for entry in parse_directory(bytes, value_size).unwrap_or_default() {
            let count = entry.count();
            for index in [0, count / 2, count - 1] {
                let offset = entry.offset(index).unwrap();
                assert!(offset + entry.size() <= value_size);
                let path = entry.path(index).unwrap();
                let _ = entry.find(&path);
            }
            if let Some(offset) = entry.find(path) {
                assert!(offset + entry.size() <= value_size);
            }
            assert_eq!(entry.offset(count), None);
        }
    }

    pub use crate::inspect::fuzz::{Choices, object, system_v};
}
