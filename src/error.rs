//! The errors of this crate: one enum for what locking says, generic over the
//! guard that a poisoned lock still hands out, and one for everything else.

use std::fmt;
use std::io;

use thiserror::Error as ThisError;

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
    /// it dies ([`MAX_LOCKS_HELD`](crate::MAX_LOCKS_HELD)). Unlock some first.
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
    /// The guard came over a fork: the parent holds the lock, not this process.
    #[error("the guard was inherited over a fork: its lock is held by the parent process")]
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
        /// The process, or 0 if it died within the few instructions in which
        /// the lock is held but nobody's name is beside it: right after it was
        /// taken, and right before it is given back.
        pid: u32,
        /// The thread, or 0 likewise.
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
            Self::OwnerDied { pid: 0, .. } => write!(f, "its last holder died"),
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
    /// `/proc/self/ns/pid` can't be read, so the pid namespace is unknown.
    #[error("the pid namespace can't be read from /proc/self/ns/pid (is /proc mounted?)")]
    NoPidNamespace(#[source] io::Error),
    /// The process was made by a bare `clone` system call. pthread believes
    /// that it still is the parent, and the kernel would not release its locks.
    #[error("this process was made by a raw clone(2), where pthread locks don't work: use fork(2)")]
    RawClone,
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
    /// The object, or the directory of objects, may not be used by this user.
    #[error("permission denied: the segment belongs to another user, or its mode forbids it")]
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
    /// The object was created in another pid namespace (a container), where
    /// thread ids, by which locks know their owners, mean something else.
    #[error("the segment belongs to another pid namespace: let both containers share one")]
    ForeignPidNamespace,
    /// The memory could not be reserved.
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
    /// locks, which came to life in what looks like another boot of the machine or
    /// another file, are not brought back to life.
    #[error("the segment is in use: processes are attached to it")]
    InUse,
    /// Another process holds a record lock on one of the bytes by which processes order
    /// opening, reviving and removing, and kept it for longer than a call waits.
    ///
    /// A call waits 10 s for an exclusive lock. Another process that opens or removes
    /// the segment holds it for long only if it is stopped, or revives a very large
    /// file: then try again later. It waits 0.25 s for a shared one, which only a
    /// program outside this crate holds. Such a program needs no more than the right to
    /// read: see [`Segment`](crate::Segment#trust).
    #[error(
        "another process has locked the segment's file for too long: find it with \
         `grep -ls ':{inode} {byte} ' /proc/[0-9]*/fdinfo/*`; wait for it, or end it"
    )]
    Blocked {
        /// The inode number of the object.
        inode: u64,
        /// The first byte that the lock covers.
        byte: u64,
    },
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
    /// See [`LockError::NotOwner`].
    #[error("the guard was inherited over a fork: its lock is held by the parent process")]
    NotOwner,
    /// This process can't tell who it is, so it can't own a lock.
    #[error(transparent)]
    Unidentified(#[from] IdentityError),
    /// Any other refusal of the operating system.
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

/// What a segment holds, and how: enough to tell two builds apart.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The type, for people: paths differ between programs that agree.
    pub type_name: String,
    /// The structural hash of the type.
    pub fingerprint: crate::Fingerprint,
    /// The size of the value in bytes.
    pub size: u64,
    /// The alignment of the value in bytes.
    pub align: u64,
    /// The platform.
    pub abi: Abi,
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({} bytes, aligned to {}, fingerprint {}, {})",
            self.type_name, self.size, self.align, self.fingerprint, self.abi
        )
    }
}

/// What the platform contributes to the layout of shared memory.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abi {
    /// The C library: 1 is glibc.
    pub libc: u8,
    /// 1 is little-endian, 2 is big-endian.
    pub endianness: u8,
    /// In bytes.
    pub pointer_width: u8,
    /// The size of a `pthread_mutex_t` in bytes.
    pub pthread_mutex: u8,
    /// The size of a `pthread_cond_t` in bytes.
    pub pthread_cond: u8,
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let libc = match self.libc {
            1 => "glibc",
            _ => "an unknown libc",
        };
        let endianness = match self.endianness {
            1 => "little-endian",
            2 => "big-endian",
            _ => "unknown-endian",
        };
        write!(
            f,
            "{libc}, {}-bit {endianness}, pthread_mutex_t of {} and pthread_cond_t of {} bytes",
            u32::from(self.pointer_width) * 8,
            self.pthread_mutex,
            self.pthread_cond
        )
    }
}
