//! The errors of this crate: one enum for what locking says, generic over the
//! guard that a poisoned lock still hands out, and one for everything else.

mod layout;

use std::fmt;
use std::io;

use thiserror::Error as ThisError;

pub use layout::{Abi, Layout};

/// What a lock method returns: the guard, or why there is none, or the guard
/// together with the news that the data may be half-changed.
pub type LockResult<G> = Result<G, LockError<G>>;

/// Why a lock was not simply taken.
///
/// In one case the lock *is* held all the same: [`Poisoned`](Self::Poisoned)
/// carries the guard. Dropping the error unlocks it.
///
/// # The question mark
///
/// In a function that returns `Result<_, shm_sync::Error>`, `?` turns this into
/// an [`Error`], which drops the guard. A `Box<dyn std::error::Error>` can't
/// hold the guard's borrow, so name the error there:
///
/// ```
/// # use shm_sync::{Segment, ShmMutex};
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     let counter = Segment::anonymous(ShmMutex::new(0_u64))?;
///     *counter.lock().map_err(shm_sync::Error::from)? += 1;
///     Ok(())
/// }
/// ```
#[non_exhaustive]
#[derive(ThisError)]
pub enum LockError<G> {
    /// The lock is held, but its last holder died or panicked inside, and
    /// nobody has repaired the data since.
    #[error("the lock is held, but its data may be half-changed: {}", .0.cause)]
    Poisoned(Poisoned<G>),
    /// Somebody else holds the lock, and the caller did not want to wait.
    #[error("the lock is held by another thread or process")]
    WouldBlock,
    /// Somebody else held the lock until the deadline.
    #[error("the lock was not free before the deadline")]
    TimedOut,
    /// This thread holds the lock already, so waiting for it would never end.
    #[error("this thread already holds the lock")]
    Deadlock,
    /// The lock is a value in ordinary memory: it comes to life when a
    /// segment, or [`place_at`](crate::place_at), places it.
    #[error("the lock is not placed in shared memory yet: create a Segment with it")]
    NotPlaced,
    /// This thread holds as many robust locks as the kernel can recover when
    /// it dies ([`MAX_LOCKS_HELD`](crate::MAX_LOCKS_HELD)), with those that C code or
    /// another copy of this crate has taken. Unlock some first.
    #[error("this thread holds as many locks as the kernel recovers when it dies: unlock some")]
    TooManyLocks,
    /// The lock belongs to another pid namespace (a container). Thread ids,
    /// by which locks know their owners, mean something else there.
    #[error(
        "the lock belongs to another pid namespace: let both containers share one (`--pid=...`)"
    )]
    ForeignPidNamespace,
    /// A program outside this crate unlocked the `pthread_mutex_t` without
    /// making it consistent after its owner had died. pthread refuses it for
    /// ever; see [`ShmMutex::reset`](crate::ShmMutex::reset).
    #[error("a foreign program left the pthread mutex unrecoverable: reset or recreate it")]
    NotRecoverable,
    /// A [`PthreadCondvar`](crate::PthreadCondvar) can't wait with a mutex that inherits
    /// priorities, because glibc does not lock such a mutex safely. The mutex is
    /// released. [`ShmCondvar`](crate::ShmCondvar) can wait with it.
    #[error(
        "a PthreadCondvar can't wait with a mutex that inherits priorities: use a ShmCondvar, \
         or a mutex without priority inheritance"
    )]
    PriorityInheritance,
    /// This thread does not hold the lock of the guard. It came over a fork, and the
    /// parent holds it; or C code has unlocked it.
    #[error(
        "this thread does not hold the guard's lock: the guard was inherited over a fork, \
         or C code has unlocked it"
    )]
    NotOwner,
    /// This process can't tell who it is, so it can't own a lock.
    #[error(transparent)]
    Unidentified(#[from] IdentityError),
    /// The operating system refused. The lock is not held.
    #[error("the operating system refused to lock or to wait")]
    Os(#[source] io::Error),
}

impl<G> LockError<G> {
    /// Changes the guard inside, if there is one.
    pub(crate) fn map_guard<H>(self, f: impl FnOnce(G) -> H) -> LockError<H> {
        match self {
            Self::Poisoned(Poisoned { guard, cause }) => LockError::Poisoned(Poisoned {
                guard: f(guard),
                cause,
            }),
            Self::WouldBlock => LockError::WouldBlock,
            Self::TimedOut => LockError::TimedOut,
            Self::Deadlock => LockError::Deadlock,
            Self::NotPlaced => LockError::NotPlaced,
            Self::TooManyLocks => LockError::TooManyLocks,
            Self::ForeignPidNamespace => LockError::ForeignPidNamespace,
            Self::NotRecoverable => LockError::NotRecoverable,
            Self::PriorityInheritance => LockError::PriorityInheritance,
            Self::NotOwner => LockError::NotOwner,
            Self::Unidentified(error) => LockError::Unidentified(error),
            Self::Os(error) => LockError::Os(error),
        }
    }
}

/// By hand, so that a guard need not be `Debug` for `unwrap` to work.
impl<G> fmt::Debug for LockError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Poisoned(poisoned) => f.debug_tuple("Poisoned").field(&poisoned.cause).finish(),
            Self::Unidentified(error) => f.debug_tuple("Unidentified").field(error).finish(),
            Self::Os(error) => f.debug_tuple("Os").field(error).finish(),
            Self::WouldBlock => f.write_str("WouldBlock"),
            Self::TimedOut => f.write_str("TimedOut"),
            Self::Deadlock => f.write_str("Deadlock"),
            Self::NotPlaced => f.write_str("NotPlaced"),
            Self::TooManyLocks => f.write_str("TooManyLocks"),
            Self::ForeignPidNamespace => f.write_str("ForeignPidNamespace"),
            Self::NotRecoverable => f.write_str("NotRecoverable"),
            Self::PriorityInheritance => f.write_str("PriorityInheritance"),
            Self::NotOwner => f.write_str("NotOwner"),
        }
    }
}

/// A lock that is held although its last holder died or panicked inside.
///
/// The idea is [`std::sync::PoisonError`]'s, made to survive processes: the
/// poison is a flag in the shared memory, and every process sees it until
/// somebody repairs the data with [`recover`](Poisoned::recover) or vouches for it with
/// [`ShmMutex::clear_poison`](crate::ShmMutex::clear_poison).
///
/// Dropping this unlocks and changes nothing else.
#[must_use = "the lock is held: repair the data with `recover`, or drop this to unlock"]
pub struct Poisoned<G> {
    pub(crate) guard: G,
    pub(crate) cause: PoisonCause,
}

impl<G> Poisoned<G> {
    /// Who left the data in doubt, and how.
    pub fn cause(&self) -> PoisonCause {
        self.cause
    }

    /// The guard, to look at the data.
    pub fn get_ref(&self) -> &G {
        &self.guard
    }

    /// The guard, to change the data. The flag stays.
    pub fn get_mut(&mut self) -> &mut G {
        &mut self.guard
    }

    /// The guard, to use the data as it is. The flag stays, so the next locker
    /// is told as well.
    pub fn into_inner(self) -> G {
        self.guard
    }
}

impl<G> fmt::Display for Poisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the data may be half-changed: {}", self.cause)
    }
}

impl<G> fmt::Debug for Poisoned<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poisoned")
            .field("cause", &self.cause)
            .finish_non_exhaustive()
    }
}

/// How the data under a lock came to be in doubt.
///
/// The ids are those of the lock's pid namespace. They name who it *was*: the
/// system may have given them to somebody else since.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoisonCause {
    /// The holder ended with the lock held: killed by a signal, `exit`, `exec`
    /// of the main thread, or the end of its thread.
    #[non_exhaustive]
    OwnerDied {
        /// The process, or 0 if it is unknown. That is so if C code held the lock, which
        /// leaves no name beside it, and if the holder died within the few
        /// instructions right after it took the lock, or right before it gave it back.
        pid: u32,
        /// The thread, or 0 if it is unknown. It may be known where the process is not.
        tid: u32,
    },
    /// The holder panicked with the lock held.
    #[non_exhaustive]
    Panicked {
        /// The process.
        pid: u32,
        /// The thread.
        tid: u32,
    },
}

impl PoisonCause {
    /// The process that left the data in doubt, however it did; 0 if unknown.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match *self {
            Self::OwnerDied { pid, .. } | Self::Panicked { pid, .. } => pid,
        }
    }

    /// The thread that left the data in doubt, however it did; 0 if unknown.
    #[must_use]
    pub fn tid(&self) -> u32 {
        match *self {
            Self::OwnerDied { tid, .. } | Self::Panicked { tid, .. } => tid,
        }
    }
}

impl fmt::Display for PoisonCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnerDied { pid: 0, tid: 0 } => write!(f, "its last holder died"),
            Self::OwnerDied { pid: 0, tid } => write!(f, "its last holder died (thread {tid})"),
            Self::OwnerDied { pid, tid } => {
                write!(f, "its last holder died (process {pid}, thread {tid})")
            }
            Self::Panicked { pid, tid } => {
                write!(f, "its last holder panicked (process {pid}, thread {tid})")
            }
        }
    }
}

/// Why a process can't tell who it is in terms that locks understand.
#[non_exhaustive]
#[derive(Debug, ThisError)]
pub enum IdentityError {
    /// `/proc/self/ns/pid` can't be read, and the kernel does not tell the pid
    /// namespace otherwise (`PIDFD_GET_PID_NAMESPACE`, Linux 6.11), so it is unknown.
    /// Each process asks once: also a forked child, after a `chroot`. Before
    /// Linux 6.11, mount `/proc` in the new root.
    #[error(
        "the pid namespace can't be read from /proc/self/ns/pid: \
         mount /proc (in a chroot as well), or use Linux 6.11"
    )]
    NoPidNamespace(#[source] io::Error),
    /// `/proc/sys/kernel/random/boot_id` can't be read, so it is unknown whether the
    /// locks in a file on a disk are of this boot of the machine. POSIX objects,
    /// anonymous and System V segments do without.
    #[error(
        "which boot of the machine this is can't be read from \
         /proc/sys/kernel/random/boot_id: mount all of /proc (without subset=pid), \
         or use a segment in memory"
    )]
    NoBootId(#[source] io::Error),
    /// The process was made by a bare `clone` system call. pthread believes
    /// that it still is the parent, and the kernel would not release its locks.
    #[error("this process was made by a raw clone(2), where pthread locks don't work: use fork(2)")]
    RawClone,
    /// The system has no robust lists, by which the kernel knows the locks of a thread
    /// that dies: an emulator (qemu-user), or a sandbox that refuses
    /// `get_robust_list(2)` or `set_robust_list(2)`.
    #[error(
        "no robust lists here, without which locks can't survive their holders: run on a real \
         Linux kernel, and let the sandbox permit get_robust_list(2) and set_robust_list(2)"
    )]
    NoRobustLists(#[source] io::Error),
    /// The kernel has no `MADV_WIPEONFORK` (Linux 4.14), by which forks are
    /// noticed.
    #[error("forks can't be noticed here: madvise(MADV_WIPEONFORK) was refused")]
    NoForkDetection(#[source] io::Error),
}

/// Everything that can go wrong with a segment, and, by `?`, with a lock.
///
/// Match on it; the texts are for people.
#[non_exhaustive]
#[derive(Debug, ThisError)]
pub enum Error {
    /// The name is not one that the system takes.
    #[error("{name:?} can't name a segment: {reason}")]
    InvalidName {
        /// What was given.
        name: String,
        /// What is wrong with it.
        reason: NameError,
    },
    /// No object has that name.
    #[error("there is no such segment: create it first, or use open_or_create")]
    NotFound,
    /// Another object has that name already.
    #[error("a segment of that name exists: open it, unlink it first, or use open_or_create")]
    AlreadyExists,
    /// The owner and the mode of the object, or of its directory, forbid it to this
    /// user. A call that a sandbox or a missing privilege forbids is [`Os`](Self::Os).
    #[error("permission denied: owner and mode of the segment, or of its directory, forbid it")]
    PermissionDenied,
    /// The object belongs to a user who was not expected to own it. Anybody can
    /// put an object into the shared directory; say whom you trust with
    /// [`SegmentOptions::owner`](crate::SegmentOptions::owner).
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
    /// or its mode lets users write who are not in it.
    #[error(
        "any_owner() trusts one group: name it by group(..), and let no others write by mode(..)"
    )]
    NoTrustedGroup,
    /// An unexpected user created the System V segment. The creator keeps all rights of an
    /// owner after giving the segment to another user, so the creator
    /// must be the expected owner, this user, or root.
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
    /// A process of another group created the System V segment, or would create it.
    /// The kernel grants to the creator's group what the mode grants to the segment's
    /// group, for good. So the effective group of the creator must be the group
    /// of [`SegmentOptions::group`](crate::SegmentOptions::group), or root's.
    #[error(
        "a process of group {found} creates the System V segment, and the kernel grants to \
         its group what it grants to group {expected}: create it with the effective group \
         {expected} (`sg`, setegid), or as root"
    )]
    WrongCreatorGroup {
        /// The group id that was expected.
        expected: u32,
        /// The group id of the creator.
        found: u32,
    },
    /// More users may write to the object than was allowed with
    /// [`SegmentOptions::mode`](crate::SegmentOptions::mode).
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
    /// The object is something else: not a file, too short, or without this
    /// crate's header.
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
    Corrupt(Damage),
    /// The object holds another type, or the same type as another build lays
    /// it out.
    #[error("the segment holds {found}, but this program expects {expected}")]
    LayoutMismatch {
        /// What this program would have created.
        expected: Box<Layout>,
        /// What the header says.
        found: Box<Layout>,
    },
    /// The object is in use in another pid namespace (a container), where
    /// thread ids, by which locks know their owners, mean something else.
    ///
    /// A POSIX object or a file is refused only while a process is attached there
    /// that may write. When the last one has ended, the next process that opens the
    /// object brings the locks into its own namespace: a container that starts again
    /// finds its data, and locks that were held poisoned. A memfd has no record of
    /// its users, so it stays with the namespace in which it was made.
    #[error(
        "the segment belongs to another pid namespace: \
         let both containers share one, or end the processes of the other one first"
    )]
    ForeignPidNamespace,
    /// The file system, a quota, or a limit of this process (`ulimit -f`, `ulimit -v`)
    /// has no room for the memory. The limit of a memory cgroup is not told so: the
    /// kernel kills a process of the cgroup when the memory is reserved or touched.
    #[error("there is no room for {bytes} bytes of shared memory")]
    NoSpace {
        /// How many bytes were asked for.
        bytes: usize,
    },
    /// There are not so many huge pages free, or this user may not use them.
    #[error(
        "there are no huge pages for {bytes} bytes: reserve some (`sysctl vm.nr_hugepages=...`), \
         let this user have them (`vm.hugetlb_shm_group`), or use normal pages"
    )]
    NoHugePages {
        /// How many bytes were asked for.
        bytes: usize,
    },
    /// The memory can't be locked: more than this process may.
    #[error(
        "this process may not lock {bytes} bytes of memory{}: \
         raise RLIMIT_MEMLOCK (`ulimit -l`), or don't lock it",
        .limit.map_or_else(String::new, |limit| format!(" (its limit is {limit} bytes)"))
    )]
    MemoryLockLimit {
        /// How many bytes were to be locked.
        bytes: usize,
        /// How many this process may lock in all, if that is the reason.
        limit: Option<u64>,
    },
    /// The file behind a descriptor could be made shorter while it is mapped,
    /// which would end in `SIGBUS`.
    #[error(
        "the descriptor is not of a memfd that is sealed against shrinking: \
         open a named object by its name"
    )]
    Unsealed,
    /// A living process is attached to the segment, so it is not removed; or its
    /// locks, which came to life in what looks like another boot of the machine,
    /// another device or another file, are not brought back to life.
    #[error("the segment is in use: processes are attached to it")]
    InUse,
    /// A process that creates, renews or removes the System V segment has not finished:
    /// it is stopped, or its closure takes long.
    #[error(
        "a process has been creating, renewing or removing the segment for {waited:?}: \
         let it go on if it is stopped, or end it, and try again"
    )]
    Unfinished {
        /// How long this process has waited.
        waited: std::time::Duration,
    },
    /// This process was forked by the closure that fills a new segment, and has returned
    /// from the closure. The parent creates the segment.
    #[error(
        "this process was forked while its parent was creating the segment: \
         open it when the parent is ready"
    )]
    ForkedWhileCreating,
    /// What was asked for is not possible with this kind of memory, or on this
    /// system.
    #[error("{0}")]
    Unsupported(Unsupported),
    /// See [`LockError::Poisoned`]. The lock was released again; the data is
    /// still in doubt.
    #[error("the data may be half-changed: {0}")]
    Poisoned(PoisonCause),
    /// See [`LockError::WouldBlock`].
    #[error("the lock is held by another thread or process")]
    WouldBlock,
    /// See [`LockError::TimedOut`].
    #[error("the lock was not free before the deadline")]
    TimedOut,
    /// See [`LockError::Deadlock`].
    #[error("this thread already holds the lock")]
    Deadlock,
    /// See [`LockError::NotPlaced`].
    #[error("the lock is not placed in shared memory yet: create a Segment with it")]
    NotPlaced,
    /// See [`LockError::TooManyLocks`].
    #[error("this thread holds as many locks as the kernel recovers when it dies: unlock some")]
    TooManyLocks,
    /// See [`LockError::NotRecoverable`].
    #[error("a foreign program left the pthread mutex unrecoverable: reset or recreate it")]
    NotRecoverable,
    /// See [`LockError::PriorityInheritance`].
    #[error(
        "a PthreadCondvar can't wait with a mutex that inherits priorities: use a ShmCondvar, \
         or a mutex without priority inheritance"
    )]
    PriorityInheritance,
    /// See [`LockError::NotOwner`].
    #[error(
        "this thread does not hold the guard's lock: the guard was inherited over a fork, \
         or C code has unlocked it"
    )]
    NotOwner,
    /// This process can't tell who it is, so it can't own a lock.
    #[error(transparent)]
    Unidentified(#[from] IdentityError),
    /// Any other refusal of the operating system, of a sandbox, or for lack of a
    /// privilege.
    #[error("{call} failed")]
    Os {
        /// The call that failed.
        call: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

impl<G> From<LockError<G>> for Error {
    /// Drops the guard of a poisoned lock, which unlocks it; the poison stays.
    fn from(error: LockError<G>) -> Self {
        match error {
            LockError::Poisoned(poisoned) => Self::Poisoned(poisoned.cause),
            LockError::WouldBlock => Self::WouldBlock,
            LockError::TimedOut => Self::TimedOut,
            LockError::Deadlock => Self::Deadlock,
            LockError::NotPlaced => Self::NotPlaced,
            LockError::TooManyLocks => Self::TooManyLocks,
            LockError::ForeignPidNamespace => Self::ForeignPidNamespace,
            LockError::NotRecoverable => Self::NotRecoverable,
            LockError::PriorityInheritance => Self::PriorityInheritance,
            LockError::NotOwner => Self::NotOwner,
            LockError::Unidentified(error) => Self::Unidentified(error),
            LockError::Os(source) => Self::Os {
                call: "locking or waiting",
                source,
            },
        }
    }
}

/// What is wrong with a name.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
pub enum NameError {
    /// There is no slash in it.
    #[error(
        "write \"/jobs\" for a POSIX object, \"./jobs\" for a file, \
         \"sysv:42\" for a System V key"
    )]
    NoLeadingSlash,
    /// Nothing, `.` or `..` follows the last slash.
    #[error("a name must follow the slash")]
    Empty,
    /// What follows `sysv:` is not a key.
    #[error("a System V key is a number other than 0, as in \"sysv:0x2a\" or \"sysv:42\"")]
    NotAKey,
    /// A path is not UTF-8.
    #[error("it must be UTF-8")]
    NotUtf8,
    /// There is a NUL byte.
    #[error("it must have no NUL byte")]
    Nul,
    /// It is longer than 255 bytes with the slash, or the whole path longer than
    /// 4095.
    #[error("it must be at most 255 bytes long, and a path at most 4095")]
    TooLong,
}

/// How a header contradicts itself or its object.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
pub enum Damage {
    /// The object is smaller or larger than the header says.
    #[error("it says that the object has {claimed} bytes, but it has {actual}")]
    WrongSize {
        /// In bytes, by the header.
        claimed: u64,
        /// In bytes, by the system.
        actual: u64,
    },
    /// The value would lie outside the object, inside the header, or askew.
    #[error("the value does not fit where it says the value is")]
    MisplacedValue,
    /// The name of the type is too long, or not UTF-8.
    #[error("the type's name can't be read")]
    UnreadableTypeName,
    /// It does not say what becomes of the object, in a way known here.
    #[error("the removal policy is unknown")]
    UnknownRemoval,
    /// The list of sync objects can't be read.
    #[error("the directory of locks can't be read")]
    UnreadableDirectory,
    /// A sync object would lie outside the value.
    #[error("the directory of locks leads out of the value")]
    MisplacedObject,
    /// A field that is never zero is zero.
    #[error("the pid namespace is missing")]
    NoPidNamespace,
}

/// What can't be had.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
pub enum Unsupported {
    /// Huge pages for a file with a name.
    #[error(
        "huge pages can be had for anonymous and System V segments only, \
         not for POSIX objects and files"
    )]
    HugePages,
    /// Files without a name (`O_TMPFILE`), on the file system of a path.
    #[error("this file system has no unnamed files (O_TMPFILE), so none can be published whole")]
    UnnamedFiles,
    /// Bringing in all pages at once (`MADV_POPULATE_WRITE`).
    #[error("pages can be brought in beforehand on Linux 5.14 and later")]
    Prefault,
    /// Creating a System V segment by its id.
    #[error("a System V segment is created by its key, or without one; its id is given to it")]
    CreationById,
}
