//! The errors of this crate: [`LockError`] for locks, which may contain a guard, and
//! [`Error`] for segments. A `LockError` converts to an `Error`.

mod identity;
mod lock;
mod mismatch;
mod request;

use std::convert::Infallible;
use std::io;

use thiserror::Error as ThisError;

pub use identity::IdentityError;
pub use lock::{LockError, LockResult, PoisonCause, Poisoned};
pub use mismatch::{Abi, CorruptHeader, Layout};
pub use request::{NameError, Unsupported};

/// An error of a segment or, by `?`, of a lock.
///
/// Match on the variants. The texts are for people.
///
/// ```
/// use shm_sync::{Error, Segment, ShmMutex};
///
/// # let name = format!("/shm-sync-doc-error-{}", std::process::id());
/// # let name = name.as_str();
/// let opened = Segment::<ShmMutex<u64>>::open(name);
/// assert!(matches!(opened, Err(Error::NotFound)));
/// ```
#[non_exhaustive]
#[derive(Debug, ThisError)]
pub enum Error {
    /// The name is invalid.
    #[error("{name:?} can't name a segment: {reason}")]
    InvalidName {
        /// The invalid name.
        name: String,
        /// The fault of the name.
        reason: NameError,
    },
    /// No object has that name.
    #[error("there is no such segment: create it first, or use open_or_create")]
    NotFound,
    /// Another object has that name already.
    #[error("a segment of that name exists: open it, unlink it first, or use open_or_create")]
    AlreadyExists,
    /// The owner and the mode of the object, or of its directory, forbid the call to
    /// this user. If a sandbox or a missing privilege forbids it, the error is
    /// [`Os`](Self::Os).
    #[error("permission denied: owner and mode of the segment, or of its directory, forbid it")]
    PermissionDenied,
    /// An unexpected user owns the object. Every user can put an object into the shared
    /// directory. Name the trusted user with
    /// [`SegmentOptions::owner`](crate::SegmentOptions::owner), or trust a group with
    /// [`any_owner`](crate::SegmentOptions::any_owner).
    #[error("the segment belongs to user {found}, not to user {expected}")]
    WrongOwner {
        /// The user id that was expected.
        expected: u32,
        /// The user id that owns the object.
        found: u32,
    },
    /// The object belongs to a group that was not expected: see
    /// [`SegmentOptions::group`](crate::SegmentOptions::group).
    #[error("the segment belongs to group {found}, not to group {expected}")]
    WrongGroup {
        /// The group id that was expected.
        expected: u32,
        /// The group id of the object.
        found: u32,
    },
    /// [`SegmentOptions::any_owner`](crate::SegmentOptions::any_owner) names no group,
    /// or its mode lets users write who are not members.
    #[error(
        "any_owner() trusts the members of one group: name the group with group(..), \
         and choose a mode(..) in which other users may not write"
    )]
    NoTrustedGroup,
    /// An unexpected user created the System V segment. The creator keeps all rights of
    /// an owner after giving the segment to another user. So the creator must be the
    /// expected owner, this user, or root.
    #[error(
        "user {found} created the System V segment and keeps the right to write to it, \
         although it belongs to user {expected}: let root or user {expected} create it"
    )]
    WrongCreator {
        /// The user id that was expected.
        expected: u32,
        /// The user id of the creator.
        found: u32,
    },
    /// A process of another group created the System V segment, or this process would
    /// create it. The kernel grants to the creator's group what the mode grants to the
    /// segment's group, for good. So the effective group of the creator must be the
    /// group of [`SegmentOptions::group`](crate::SegmentOptions::group). With
    /// [`any_owner`](crate::SegmentOptions::any_owner), the creator may also be root.
    /// Without it, the creator may also have root's group.
    #[error(
        "the creator of the System V segment has group {found}, and the kernel grants to it \
         what it grants to group {expected}: create the segment with the effective group \
         {expected} (`sg`, setegid), or as root"
    )]
    WrongCreatorGroup {
        /// The group id that was expected.
        expected: u32,
        /// The group id of the creator.
        found: u32,
    },
    /// More users may write to the object than
    /// [`SegmentOptions::mode`](crate::SegmentOptions::mode) allows.
    #[error(
        "the segment's mode {found:04o} lets more users write to it than {allowed:04o}: \
         if that is meant, open it with the same mode in its options"
    )]
    TooPermissive {
        /// The permission bits that were allowed.
        allowed: u32,
        /// The permission bits of the object.
        found: u32,
    },
    /// The object is not a segment of this crate: it is no file, is too short, or has
    /// another header.
    #[error("the object is not a segment of this crate")]
    NotASegment,
    /// The object has this crate's header, but in a format that this version
    /// does not know.
    #[error("the segment has format version {found}; this program knows {supported}")]
    UnsupportedFormat {
        /// The version in the header.
        found: u32,
        /// The version of this program.
        supported: u32,
    },
    /// The header contradicts itself or the object's size.
    #[error("the segment's header is damaged: {0}")]
    Corrupt(CorruptHeader),
    /// The object contains another type, or the same type in another layout.
    #[error("the segment holds {found}, but this program expects {expected}")]
    LayoutMismatch {
        /// The layout that this program would have created.
        expected: Box<Layout>,
        /// The layout in the header.
        found: Box<Layout>,
    },
    /// The object is in use in another pid namespace (a container), where the thread
    /// ids in its locks mean other threads.
    ///
    /// A POSIX object or a file is refused only while a process with write access is
    /// attached there, and a System V segment while any process is attached. After the
    /// last one has ended, the next opener reinitialises the locks in its own
    /// namespace. So a container that starts again finds its data, and the locks that
    /// were held are poisoned. A memfd does not record its processes, so it stays with
    /// the namespace in which it was made.
    ///
    /// For a lock, see [`LockError::ForeignPidNamespace`].
    #[error(
        "the segment belongs to another pid namespace: let both containers share one, \
         or end the processes of the other container that are attached"
    )]
    ForeignPidNamespace,
    /// The file system, a quota, or a limit of this process (`ulimit -f`, `ulimit -v`)
    /// has no room for the memory. The limit of a memory cgroup is not reported: the
    /// kernel kills a process of the cgroup when the memory is reserved or touched.
    #[error("there is no room for {bytes} bytes of shared memory")]
    NoSpace {
        /// The requested size in bytes.
        bytes: usize,
    },
    /// There are not enough free huge pages, or this user may not use them.
    #[error(
        "there are no huge pages for {bytes} bytes: reserve some (`sysctl vm.nr_hugepages=...`), \
         let this user have them (`vm.hugetlb_shm_group`), or use normal pages"
    )]
    NoHugePages {
        /// The requested size in bytes.
        bytes: usize,
    },
    /// This process may not lock so much memory (`RLIMIT_MEMLOCK`).
    #[error(
        "this process may not lock {bytes} bytes of memory{}: \
         raise RLIMIT_MEMLOCK (`ulimit -l`), or don't lock it",
        .limit.map_or_else(String::new, |limit| format!(" (its limit is {limit} bytes)"))
    )]
    MemoryLockLimit {
        /// The size of the memory in bytes.
        bytes: usize,
        /// The limit of this process in bytes, if the limit is the reason.
        limit: Option<u64>,
    },
    /// The file of the descriptor could be shortened while it is mapped. An access
    /// would then raise `SIGBUS`.
    #[error(
        "the descriptor is not of a memfd that is sealed against shrinking: \
         open a named object by its name"
    )]
    Unsealed,
    /// A process is attached to the segment. A removal fails if any process is
    /// attached. An opener that finds the locks stale fails only if a process with
    /// write access is attached, because that process uses the locks. Locks are stale
    /// if the boot, device or file is another one than the header says, for example in
    /// a copy.
    #[error("the segment is in use: end the processes that are attached to it, and try again")]
    InUse,
    /// Another process has not finished creating, reinitialising or removing the System
    /// V segment: it is stopped, or the closure that fills the segment takes long.
    #[error(
        "another process has been creating, reinitialising or removing the System V segment for \
         {waited:?}: continue that process if it is stopped, or end it, and try again"
    )]
    Unfinished {
        /// The time that this process has waited.
        waited: std::time::Duration,
    },
    /// The closure that fills a new segment has forked, and the child has returned from
    /// it. This process is the child; the parent creates the segment.
    #[error(
        "this process was forked while its parent was creating the segment: \
         end it in the closure, or let it open the segment when the parent is ready"
    )]
    ForkedWhileCreating,
    /// Another process holds a record lock on the segment's file for longer than this
    /// call waits. Such locks order opening, reinitialising and removing.
    ///
    /// | the other process holds | this call waits | the other process |
    /// |---|---|---|
    /// | an exclusive lock | 10 s (0.25 s in [`inspect::remove`](crate::inspect::remove) and the tool) | removes the segment, or reinitialises its locks. It is stopped, or the file is very large: try again later |
    /// | a shared lock | 0.25 s | runs a program outside this crate. Read access is enough for it: see [`Segment`](crate::Segment#trust) |
    #[error(
        "another process has locked the segment's file for too long: find that process with \
         `grep -ls ':{inode} {byte} ' /proc/[0-9]*/fdinfo/*`; wait for it, or end it"
    )]
    Blocked {
        /// The inode number of the object.
        inode: u64,
        /// The first byte that the lock covers.
        byte: u64,
    },
    /// This kind of memory or this system does not support the request.
    #[error("{0}")]
    Unsupported(Unsupported),
    /// A holder of the lock died or panicked: see [`LockError::Poisoned`]. The lock is
    /// unlocked again, and the data may still be inconsistent.
    #[error("the data may be inconsistent: {0}")]
    Poisoned(PoisonCause),
    /// The lock was not acquired: see [`LockError`].
    ///
    /// [`LockError::Poisoned`], [`LockError::ForeignPidNamespace`],
    /// [`LockError::Unidentified`] and [`LockError::Os`] become the variants of this
    /// type with these names instead. (`Infallible` means that there is no guard.)
    ///
    /// ```
    /// use shm_sync::{Error, LockError, Segment, ShmMutex};
    ///
    /// fn try_add_one(counter: &ShmMutex<u64>) -> Result<(), Error> {
    ///     *counter.try_lock()? += 1;
    ///     Ok(())
    /// }
    ///
    /// # fn main() -> Result<(), Error> {
    /// let counter = Segment::anonymous(ShmMutex::new(0))?;
    /// let guard = counter.lock()?;
    /// let busy = try_add_one(&counter);
    /// assert!(matches!(busy, Err(Error::Lock(LockError::WouldBlock))));
    /// # Ok(())
    /// # }
    /// ```
    #[error(transparent)]
    Lock(LockError<Infallible>),
    /// This process can't own locks.
    #[error(transparent)]
    Unidentified(#[from] IdentityError),
    /// Any other failure of a system call: by the kernel, by a sandbox, or for lack of
    /// a privilege.
    #[error("{call} failed")]
    Os {
        /// The call that failed.
        call: &'static str,
        /// The error that it returned.
        #[source]
        source: io::Error,
    },
}

impl<G> From<LockError<G>> for Error {
    /// Drops the guard of a poisoned lock, which unlocks. The poison stays set.
    fn from(error: LockError<G>) -> Self {
        match error.without_guard() {
            Err(poisoned) => Self::Poisoned(poisoned.cause),
            Ok(LockError::ForeignPidNamespace) => Self::ForeignPidNamespace,
            Ok(LockError::Unidentified(error)) => Self::Unidentified(error),
            Ok(LockError::Os(source)) => Self::Os {
                call: "locking or waiting",
                source,
            },
            Ok(other) => Self::Lock(other),
        }
    }
}
