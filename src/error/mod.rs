//! The errors of this crate: [`LockError`] for locks, which may contain a guard, and
//! [`Error`] for segments. A `LockError` converts to an `Error`.

mod contents;
mod identity;
mod lock;
mod mismatch;
mod request;

use std::convert::Infallible;
use std::fmt;
use std::io;

use thiserror::Error as ThisError;

pub use contents::{CapacityError, InvalidContents};
pub use identity::IdentityError;
pub use lock::{LockError, LockResult, PoisonCause, Poisoned};
pub use mismatch::{Abi, CorruptHeader, FieldLayout, FieldMismatch, Layout};
pub use request::{NameError, Unsupported};

use crate::printable::printable;
use mismatch::difference;

/// An error of a segment or, by `?`, of a lock.
///
/// Match on the variants. The texts are for people: `Display` is one sentence that
/// names the segment. `Debug` adds the name of the variant and the causes, so that a
/// `main` that returns this error prints a readable line.
///
/// ```
/// use shm_sync::{Error, Segment, ShmMutex};
///
/// let missing = Segment::<ShmMutex<u64>>::open("/shm-sync-doc-error").unwrap_err();
/// assert!(matches!(missing, Error::NotFound { .. }));
/// assert_eq!(missing.address(), Some("/shm-sync-doc-error"));
/// assert_eq!(
///     format!("{missing:?}"),
///     "NotFound: there is no segment \"/shm-sync-doc-error\": \
///      create it first, or use open_or_create"
/// );
/// ```
///
/// In the cookbook: [a new layout](crate::guide::cookbook#a-new-layout).
///
/// # The address
///
/// The field `address` of a variant is the address of the segment, as text. Every call
/// that gets an address sets it. It is `None` for anonymous segments and descriptors.
/// [`address`](Self::address) returns it.
#[non_exhaustive]
#[derive(ThisError)]
pub enum Error {
    /// The name is invalid.
    #[error("\"{}\" can't name a segment: {reason}", printable(.name))]
    InvalidName {
        /// The invalid name.
        name: String,
        /// The fault of the name.
        reason: NameError,
    },
    /// No object has that address.
    #[error("{}: create it first, or use open_or_create", no_segment(.address))]
    NotFound {
        /// The address of the segment.
        address: Option<Box<str>>,
    },
    /// An object has that address already.
    #[error(
        "{} exists already: open it, unlink it first, or use open_or_create",
        segment(.address)
    )]
    AlreadyExists {
        /// The address of the segment.
        address: Option<Box<str>>,
    },
    /// The owner and the mode of the object, or of its directory, forbid the call to
    /// this user. If a sandbox or a missing privilege forbids it, the error is
    /// [`Os`](Self::Os).
    #[error(
        "permission denied: owner and mode of {}, or of its directory, forbid it to this user",
        segment(.address)
    )]
    PermissionDenied {
        /// The address of the segment.
        address: Option<Box<str>>,
    },
    /// An unexpected user owns the object. Every user can put an object into the shared
    /// directory. Name the trusted user with
    /// [`SegmentOptions::owner`](crate::SegmentOptions::owner), or trust a group with
    /// [`any_owner`](crate::SegmentOptions::any_owner).
    #[error(
        "{} belongs to user {found}, not to user {expected}: if you trust user {found}, open \
         it with the option owner({found}), or trust a group with any_owner()",
        segment(.address)
    )]
    WrongOwner {
        /// The address of the segment.
        address: Option<Box<str>>,
        /// The user id that was expected.
        expected: u32,
        /// The user id that owns the object.
        found: u32,
    },
    /// The object belongs to a group that was not expected: see
    /// [`SegmentOptions::group`](crate::SegmentOptions::group).
    #[error(
        "{} belongs to group {found}, not to group {expected}: if you trust group {found}, \
         open it with the option group({found}), or omit this option",
        segment(.address)
    )]
    WrongGroup {
        /// The address of the segment.
        address: Option<Box<str>>,
        /// The group id that was expected.
        expected: u32,
        /// The group id of the object.
        found: u32,
    },
    /// [`SegmentOptions::any_owner`](crate::SegmentOptions::any_owner) names no group,
    /// or its mode lets users write who are not members.
    #[error(
        "the option any_owner() trusts the members of one group: name the group of {} with \
         group(..), and choose a mode(..) in which other users may not write",
        segment(.address)
    )]
    NoTrustedGroup {
        /// The address of the segment.
        address: Option<Box<str>>,
    },
    /// An unexpected user created the System V segment. The creator keeps all rights of
    /// an owner after giving the segment to another user. So the creator must be the
    /// expected owner, this user, or root.
    #[error(
        "user {found} created {} and keeps the right to write to it, although it belongs to \
         user {expected}: let root or user {expected} create it, or trust a group of both \
         with the options any_owner() and group(..)",
        system_v_segment(.address)
    )]
    WrongCreator {
        /// The address of the segment.
        address: Option<Box<str>>,
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
        "the creator of {} has group {found}, and the kernel grants to it what it grants to \
         group {expected}: create the segment with the effective group {expected} (`sg`, \
         setegid), or as root; if you trust its owner and any group, omit the option group(..)",
        system_v_segment(.address)
    )]
    WrongCreatorGroup {
        /// The address of the segment.
        address: Option<Box<str>>,
        /// The group id that was expected.
        expected: u32,
        /// The group id of the creator.
        found: u32,
    },
    /// More users may write to the object than
    /// [`SegmentOptions::mode`](crate::SegmentOptions::mode) allows.
    #[error(
        "mode {found:04o} of {} lets more users write to it than {allowed:04o}: if that is \
         meant, open it with the option mode(0o{found:o})",
        segment(.address)
    )]
    TooPermissive {
        /// The address of the segment.
        address: Option<Box<str>>,
        /// The permission bits that were allowed.
        allowed: u32,
        /// The permission bits of the object.
        found: u32,
    },
    /// The object is not a segment of this crate: it is no file, is too short, or has
    /// another header.
    #[error("{} is not a segment of this crate: use another address", object(.address))]
    NotASegment {
        /// The address of the object.
        address: Option<Box<str>>,
    },
    /// The object has this crate's header, but in a format that this version
    /// does not know.
    #[error(
        "{} has format version {found}, and this program knows {supported}: build all programs \
         with one version of shm-sync, or unlink the segment and create it again",
        segment(.address)
    )]
    UnsupportedFormat {
        /// The address of the segment.
        address: Option<Box<str>>,
        /// The version in the header.
        found: u32,
        /// The version of this program.
        supported: u32,
    },
    /// The header contradicts itself or the object's size.
    #[error(
        "the header of {} is damaged: {reason}; unlink the segment, and create it again",
        segment(.address)
    )]
    Corrupt {
        /// The address of the segment.
        address: Option<Box<str>>,
        /// The fault of the header.
        reason: CorruptHeader,
    },
    /// The object contains another type, or the same type in another layout.
    ///
    /// The text says which of these facts differ: the platform, the name of the type,
    /// its size, its alignment. If all of them are equal, only the
    /// [fingerprint](Layout::fingerprint) differs, and so the fields do. The text names
    /// the first field that differs, if the segment describes its types.
    #[error("{} {}", segment(.address), difference(.expected, .found, .field.as_deref()))]
    LayoutMismatch {
        /// The address of the segment.
        address: Option<Box<str>>,
        /// The layout that this program would have created.
        expected: Box<Layout>,
        /// The layout in the header.
        found: Box<Layout>,
        /// The first field that differs. `None` for another platform, or if the segment
        /// does not describe its types in a readable way.
        field: Option<Box<FieldMismatch>>,
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
        "{} belongs to another pid namespace: let both containers share one, \
         or end the processes of the other container that are attached",
        segment(.address)
    )]
    ForeignPidNamespace {
        /// The address of the segment.
        address: Option<Box<str>>,
    },
    /// The file system, a quota, or a limit of this process (`ulimit -f`, `ulimit -v`)
    /// has no room for the memory. The limit of a memory cgroup is not reported: the
    /// kernel kills a process of the cgroup when the memory is reserved or touched.
    #[error(
        "there is no room for the {bytes} bytes of {}: free memory or disk space, or raise the \
         limit of the file system, the quota or the process",
        segment(.address)
    )]
    NoSpace {
        /// The address of the segment.
        address: Option<Box<str>>,
        /// The requested size in bytes.
        bytes: usize,
    },
    /// There are not enough free huge pages, or this user may not use them.
    #[error(
        "there are no huge pages for the {bytes} bytes of {}: reserve some \
         (`sysctl vm.nr_hugepages=...`), let this user have them (`vm.hugetlb_shm_group`), \
         or use normal pages",
        segment(.address)
    )]
    NoHugePages {
        /// The address of the segment.
        address: Option<Box<str>>,
        /// The requested size in bytes.
        bytes: usize,
    },
    /// This process may not lock so much memory (`RLIMIT_MEMLOCK`).
    #[error(
        "this process may not lock the {bytes} bytes of {} in memory{}: \
         raise RLIMIT_MEMLOCK (`ulimit -l`), or don't lock it",
        segment(.address),
        .limit.map_or_else(String::new, |limit| format!(" (its limit is {limit} bytes)"))
    )]
    MemoryLockLimit {
        /// The address of the segment.
        address: Option<Box<str>>,
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
    #[error(
        "{} is in use: end the processes that are attached to it, and try again",
        segment(.address)
    )]
    InUse {
        /// The address of the segment.
        address: Option<Box<str>>,
    },
    /// Another process has not finished creating, reinitialising or removing the System
    /// V segment: it is stopped, or the closure that fills the segment takes long.
    #[error(
        "another process has been creating, reinitialising or removing {} for {waited:?}: \
         continue that process if it is stopped, or end it, and try again",
        system_v_segment(.address)
    )]
    Unfinished {
        /// The address of the segment.
        address: Option<Box<str>>,
        /// The time that this process has waited.
        waited: std::time::Duration,
    },
    /// The closure that fills a new segment has forked, and the child has returned from
    /// it. This process is the child; the parent creates the segment.
    #[error(
        "this process was forked while its parent was creating {}: \
         end it in the closure, or let it open the segment when the parent is ready",
        segment(.address)
    )]
    ForkedWhileCreating {
        /// The address of the segment.
        address: Option<Box<str>>,
    },
    /// Another process holds a record lock on the segment's file for longer than this
    /// call waits. Such locks order opening, reinitialising and removing.
    ///
    /// | the other process holds | this call waits | the other process |
    /// |---|---|---|
    /// | an exclusive lock | 10 s (0.25 s in [`inspect::remove`](crate::inspect::remove) and the tool) | removes the segment, or reinitialises its locks. It is stopped, or the file is very large: try again later |
    /// | a shared lock | 0.25 s | runs a program outside this crate. Read access is enough for it: see [`Segment`](crate::Segment#trust) |
    #[error(
        "another process has locked the file of {} for too long: find that process with \
         `grep -ls ':{inode} {byte} ' /proc/[0-9]*/fdinfo/*`; wait for it, or end it",
        segment(.address)
    )]
    Blocked {
        /// The address of the segment.
        address: Option<Box<str>>,
        /// The inode number of the object.
        inode: u64,
        /// The first byte that the lock covers.
        byte: u64,
    },
    /// This process still holds a lock in the segment, because a guard was leaked. So
    /// [`Segment::close`](crate::Segment::close) could not detach: the memory stays
    /// mapped, and this process attached, until it ends.
    #[error(
        "this process still holds a lock in {}, so the segment stays mapped: \
         drop every guard before close, and do not forget one",
        segment(.address)
    )]
    LocksHeld {
        /// The address of the segment.
        address: Option<Box<str>>,
    },
    /// The lock in the header of a System V segment was not acquired. It orders
    /// creating, opening and removing; see the source of the error.
    ///
    /// | source | cause |
    /// |---|---|
    /// | [`LockError::Deadlock`] | the closure that creates the segment opens the same segment, or the header is damaged |
    /// | [`LockError::TooManyLocks`] | this thread holds as many locks as the kernel recovers |
    /// | [`LockError::NotRecoverable`] | the header is damaged: unlink the segment |
    #[error("the lock in the header of {} can't be taken", system_v_segment(.address))]
    HeaderLock {
        /// The address of the segment.
        address: Option<Box<str>>,
        /// The error of the lock.
        source: LockError<Infallible>,
    },
    /// This kind of memory or this system does not support the request.
    #[error("{} can't be had as requested: {reason}", segment(.address))]
    Unsupported {
        /// The address of the segment.
        address: Option<Box<str>>,
        /// The part of the request that is not supported.
        reason: Unsupported,
    },
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
    /// The semaphore has fewer permits than
    /// [`acquire_many`](crate::ShmSemaphore::acquire_many) has asked for.
    #[error("{asked} permits can't be acquired, because the semaphore has {permits}")]
    TooManyPermits {
        /// The number of permits that the caller has asked for.
        asked: usize,
        /// The number of permits of the semaphore.
        permits: usize,
    },
    /// Each endpoint of this side of the [`ShmChannel`](crate::ShmChannel) or
    /// [`ShmPipe`](crate::ShmPipe) is in use. An endpoint of a thread that was killed
    /// is free when the kernel has ended the thread.
    #[error("all {limit} endpoints of this side of the channel are in use")]
    TooManyEndpoints {
        /// The number of endpoints of the side.
        limit: usize,
    },
    /// A member of a [`ShmBarrier`](crate::ShmBarrier) has died, left or timed out: see
    /// [`BarrierError::Broken`](crate::BarrierError::Broken).
    #[error("the round of the barrier is broken: a member has died, left, or timed out")]
    BrokenBarrier,
    /// All endpoints of the other side of a channel have closed or died: see
    /// [`SendError`](crate::SendError) and [`RecvError`](crate::RecvError).
    #[error("the channel is disconnected: {}", left(.died))]
    Disconnected {
        /// Whether at least one of them has died.
        died: bool,
    },
    /// This process can't own locks. No segment is at fault, so this error names none.
    #[error(transparent)]
    Unidentified(#[from] IdentityError),
    /// A text, a list or the like does not fit into a bounded type.
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    /// The bytes of a bounded type are invalid.
    #[error(transparent)]
    InvalidContents(#[from] InvalidContents),
    /// Any other failure of a system call: by the kernel, by a sandbox, or for lack of
    /// a privilege.
    #[error("{call} failed{}", for_segment(.address))]
    Os {
        /// The address of the segment.
        address: Option<Box<str>>,
        /// The call that failed.
        call: &'static str,
        /// The error that it returned.
        #[source]
        source: io::Error,
    },
}

/// Returns the field `address` of an error, or `None` if its variant has none.
macro_rules! address_field {
    ($error:expr) => {
        match $error {
            Error::NotFound { address }
            | Error::AlreadyExists { address }
            | Error::PermissionDenied { address }
            | Error::WrongOwner { address, .. }
            | Error::WrongGroup { address, .. }
            | Error::NoTrustedGroup { address }
            | Error::WrongCreator { address, .. }
            | Error::WrongCreatorGroup { address, .. }
            | Error::TooPermissive { address, .. }
            | Error::NotASegment { address }
            | Error::UnsupportedFormat { address, .. }
            | Error::Corrupt { address, .. }
            | Error::LayoutMismatch { address, .. }
            | Error::ForeignPidNamespace { address }
            | Error::NoSpace { address, .. }
            | Error::NoHugePages { address, .. }
            | Error::MemoryLockLimit { address, .. }
            | Error::InUse { address }
            | Error::Unfinished { address, .. }
            | Error::ForkedWhileCreating { address }
            | Error::Blocked { address, .. }
            | Error::LocksHeld { address }
            | Error::HeaderLock { address, .. }
            | Error::Unsupported { address, .. }
            | Error::Os { address, .. } => Some(address),
            Error::InvalidName { .. }
            | Error::Unsealed
            | Error::Poisoned(_)
            | Error::Lock(_)
            | Error::TooManyPermits { .. }
            | Error::TooManyEndpoints { .. }
            | Error::Disconnected { .. }
            | Error::Unidentified(_)
            | Error::Capacity(_)
            | Error::InvalidContents(_)
            | Error::BrokenBarrier => None,
        }
    };
}

impl Error {
    /// Returns the address of the segment that the call was about, or the invalid name.
    ///
    /// Returns `None` for anonymous segments and descriptors, and for errors that are
    /// not those of a segment ([`Lock`](Self::Lock), [`Poisoned`](Self::Poisoned),
    /// [`Unidentified`](Self::Unidentified)). The text may contain any character, and
    /// replacement characters (U+FFFD) for bytes that are not UTF-8. `Display` escapes
    /// characters that control a terminal.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::InvalidName { name, .. } => Some(name),
            other => address_field!(other)?.as_deref(),
        }
    }

    /// Adds the address of the segment, if the error can have one and has none yet.
    pub(crate) fn at(mut self, segment: &impl ToString) -> Self {
        if let Some(address) = address_field!(&mut self) {
            address.get_or_insert_with(|| segment.to_string().into());
        }
        self
    }

    /// Returns the name of the variant.
    fn variant(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "InvalidName",
            Self::NotFound { .. } => "NotFound",
            Self::AlreadyExists { .. } => "AlreadyExists",
            Self::PermissionDenied { .. } => "PermissionDenied",
            Self::WrongOwner { .. } => "WrongOwner",
            Self::WrongGroup { .. } => "WrongGroup",
            Self::NoTrustedGroup { .. } => "NoTrustedGroup",
            Self::WrongCreator { .. } => "WrongCreator",
            Self::WrongCreatorGroup { .. } => "WrongCreatorGroup",
            Self::TooPermissive { .. } => "TooPermissive",
            Self::NotASegment { .. } => "NotASegment",
            Self::UnsupportedFormat { .. } => "UnsupportedFormat",
            Self::Corrupt { .. } => "Corrupt",
            Self::LayoutMismatch { .. } => "LayoutMismatch",
            Self::ForeignPidNamespace { .. } => "ForeignPidNamespace",
            Self::NoSpace { .. } => "NoSpace",
            Self::NoHugePages { .. } => "NoHugePages",
            Self::MemoryLockLimit { .. } => "MemoryLockLimit",
            Self::Unsealed => "Unsealed",
            Self::InUse { .. } => "InUse",
            Self::Unfinished { .. } => "Unfinished",
            Self::ForkedWhileCreating { .. } => "ForkedWhileCreating",
            Self::Blocked { .. } => "Blocked",
            Self::LocksHeld { .. } => "LocksHeld",
            Self::HeaderLock { .. } => "HeaderLock",
            Self::Unsupported { .. } => "Unsupported",
            Self::Poisoned(_) => "Poisoned",
            Self::Lock(_) => "Lock",
            Self::TooManyPermits { .. } => "TooManyPermits",
            Self::TooManyEndpoints { .. } => "TooManyEndpoints",
            Self::BrokenBarrier => "BrokenBarrier",
            Self::Disconnected { .. } => "Disconnected",
            Self::Unidentified(_) => "Unidentified",
            Self::Capacity(_) => "Capacity",
            Self::InvalidContents(_) => "InvalidContents",
            Self::Os { .. } => "Os",
        }
    }
}

/// Shows the variant, the sentence of `Display`, and the causes.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.variant())?;
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl From<CorruptHeader> for Error {
    fn from(reason: CorruptHeader) -> Self {
        Self::Corrupt {
            address: None,
            reason,
        }
    }
}

impl From<Unsupported> for Error {
    fn from(reason: Unsupported) -> Self {
        Self::Unsupported {
            address: None,
            reason,
        }
    }
}

impl<G> From<LockError<G>> for Error {
    /// Drops the guard of a poisoned lock, which unlocks. The poison stays set.
    fn from(error: LockError<G>) -> Self {
        match error.without_guard() {
            Err(poisoned) => Self::Poisoned(poisoned.cause),
            Ok(LockError::ForeignPidNamespace) => Self::ForeignPidNamespace { address: None },
            Ok(LockError::Unidentified(error)) => Self::Unidentified(error),
            Ok(LockError::Os(source)) => Self::Os {
                address: None,
                call: "locking or waiting by futex(2)",
                source,
            },
            Ok(other) => Self::Lock(other),
        }
    }
}

/// Returns a noun with the address in quotes, or the noun alone.
fn named(noun: &str, address: &Option<Box<str>>) -> String {
    match address {
        Some(address) => format!("{noun} \"{}\"", printable(address)),
        None => noun.to_owned(),
    }
}

fn segment(address: &Option<Box<str>>) -> String {
    named("the segment", address)
}

fn system_v_segment(address: &Option<Box<str>>) -> String {
    named("the System V segment", address)
}

fn object(address: &Option<Box<str>>) -> String {
    named("the object", address)
}

fn no_segment(address: &Option<Box<str>>) -> String {
    match address {
        Some(_) => named("there is no segment", address),
        None => "there is no such segment".to_owned(),
    }
}

fn left(died: &bool) -> &'static str {
    if *died {
        "the other side has died"
    } else {
        "the other side has closed"
    }
}

fn for_segment(address: &Option<Box<str>>) -> String {
    match address {
        Some(_) => named(" for the segment", address),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let error = Error::NotFound { address: None };
        assert_eq!(error.address(), None);
        let error = error.at(&"/jobs");
        assert_eq!(error.address(), Some("/jobs"));
        let text = "there is no segment \"/jobs\": create it first, or use open_or_create";
        assert_eq!(error.to_string(), text);
        assert_eq!(format!("{error:?}"), format!("NotFound: {text}"));
    }

    #[test]
    fn first_address_stays() {
        let error = Error::InUse { address: None }.at(&"/first").at(&"/second");
        assert_eq!(error.address(), Some("/first"));
    }

    #[test]
    fn address_is_escaped_in_texts() {
        let error = Error::NotFound { address: None }.at(&"/a\x1b[2J\n");
        assert_eq!(
            error.address(),
            Some("/a\x1b[2J\n"),
            "the field has the raw text"
        );
        assert!(error.to_string().contains("\"/a\\u{1b}[2J\\n\""), "{error}");
    }

    #[test]
    fn debug_shows_causes() {
        let source = io::Error::from_raw_os_error(20);
        let error = Error::Os {
            address: None,
            call: "open",
            source,
        };
        let text = format!("{:?}", error.at(&"a/b"));
        let shown = "Os: open failed for the segment \"a/b\": Not a directory (os error 20)";
        assert_eq!(text, shown);
    }

    #[test]
    fn results_stay_small() {
        assert!(size_of::<Error>() <= 64, "{}", size_of::<Error>());
    }
}
