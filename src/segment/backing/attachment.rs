//! Attachment: how the kernel knows who uses an object with a name, and who was
//! the last.
//!
//! Whoever is attached holds a shared lock on one byte of the object, far behind
//! its end: the byte of its process id. The kernel drops the lock when the last
//! descriptor of the open file is closed, in whatever way the processes that
//! have it end: a forked child is attached by what it inherits. "Is anybody
//! there?" is "is one of these bytes locked?", which changes nothing.
//!
//! # Who may take a name away, and when
//!
//! | lock | held by | means |
//! |---|---|---|
//! | shared, one of [`ATTACHED`] | each attached process, for as long as it is | it is in use |
//! | exclusive, all of [`ATTACHED`] | a remover, for a moment | nobody is attached, and whoever comes waits |
//! | exclusive, [`REMOVAL`] | whoever takes a name away | the name still leads here, until it is gone |
//! | exclusive, [`REVIVAL`] | whoever brings locks back to life, until it is attached | nobody else does |
//! | exclusive, all of [`WRITERS`] | the same, while it does | nobody uses them, and whoever comes to waits |
//!
//! 1. Who attaches takes its lock first, and *then* looks whether the name still
//!    leads to this object; if not, it starts again.
//! 2. Who removes has `REMOVAL`, then all of `ATTACHED` without waiting, and
//!    *then* looks whether the name still leads to this object.
//!
//! So a name that is taken away led to an object that nobody is attached to, nor
//! will be: whoever came before is seen by (2), whoever comes after by (1). And
//! since every remover of this crate takes `REMOVAL` of what the name leads to,
//! the name can't pass to another object between the look and the removal.
//! ([`unlink`](crate::unlink) takes a name away from under those attached; it
//! takes `REMOVAL` only.)
//!
//! # Who may bring locks back to life, and when
//!
//! The header says for which boot, file and pid namespace the locks are valid. A
//! process that opens the object to write, and finds that they are not valid for
//! itself, takes `REVIVAL` first, then its own lock, and *then* all of
//! `WRITERS` without waiting. If another process has one of these, the locks are valid
//! for that one: they are left alone, and the opener is refused. If not, each process
//! that comes next waits, and looks at the header afterwards. The header says that the
//! locks are valid for no process from before the first lock is made anew until after
//! the last one, so that a death in between is noticed, whatever the next one sees.
//!
//! Why no two processes for which the locks are *not* both valid use them at once,
//! say of the pid namespaces A, for which they are valid, and B:
//!
//! 1. A user has a lock in `WRITERS`, and read the header *after* it had it.
//! 2. The header changes only while one process has all of `WRITERS`: so not while
//!    there is a user, and each user finds in the header what it is itself.
//! 3. If A comes first, B does not get `WRITERS`. If B comes first, A waits for its
//!    own lock, then finds B in the header, and is an opener for which the locks are
//!    not valid. Two that both find A gone take turns by `REVIVAL`.
//!
//! Record locks belong to the kernel's open files, and not to process ids: they
//! exclude each other across pid namespaces. Two processes of different namespaces can
//! have the same id, and so the same byte, which their locks share.
//!
//! A refused process leaves `WRITERS` before it leaves `REVIVAL`: the next one of its
//! namespace must not take it for a user.
//!
//! The kernel may give the number of a namespace that is gone to a new one. Then the
//! locks look valid, and they are: a namespace is gone after its last thread, and
//! the kernel has walked the robust list of each thread that ended, also of those that
//! were killed with their container. What they held says `FUTEX_OWNER_DIED`.
//!
//! Whoever dies in the middle of this leaves no lock, and the object named or
//! not named, never half so.
//!
//! # Who can hold up whom
//!
//! A process that may only read the object can hold shared locks, on any byte. The
//! locks that calls wait for are therefore waited for with a deadline ([`PATIENCE`]);
//! the table in docs/decisions/attachment-by-ofd-locks.md goes through all ranges.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::os::clock::Deadline;
use crate::os::descriptor::CheckedFd;
use crate::os::mem::Access;
use crate::os::ofd_lock::{self, Blocked, ByteRange, LockKind, LockTimeout};
use crate::os::regular_file;
use crate::segment::policy::Removal;

/// A byte for each process id, beyond the end of every file: of those who may use
/// the locks.
const WRITERS: ByteRange = ByteRange {
    start: 1 << 62,
    len: 1 << 30,
};

/// The same, of those who only read.
const READERS: ByteRange = ByteRange {
    start: WRITERS.start + WRITERS.len,
    len: WRITERS.len,
};

/// All of them.
const ATTACHED: ByteRange = ByteRange {
    start: WRITERS.start,
    len: WRITERS.len + READERS.len,
};

/// The byte before them.
const REMOVAL: ByteRange = ByteRange {
    start: ATTACHED.start - 1,
    len: 1,
};

/// The byte before that.
const REVIVAL: ByteRange = ByteRange {
    start: REMOVAL.start - 1,
    len: 1,
};

/// How long a call waits for one of these locks. Removers and revivers hold the
/// exclusive ones: for microseconds, or for as long as it takes to revive every lock of
/// a large segment, unless they are stopped. No process of this crate holds a shared
/// lock that another waits for, so a shared one is waited for only as long as a backup
/// may read.
const PATIENCE: LockTimeout = LockTimeout {
    with_shared: Duration::from_millis(250),
    with_exclusive: Duration::from_secs(10),
};

/// How long a removal waits that the tool asks for. The owner of an object may be a
/// stranger to root, and can hold an exclusive lock on each of any number of objects. A
/// remover at work holds one for microseconds.
const PATIENCE_WITH_STRANGERS: LockTimeout = LockTimeout {
    with_shared: PATIENCE.with_shared,
    with_exclusive: PATIENCE.with_shared,
};

/// How long [`registered`] asks. The kernel goes through all locks of the file for each
/// answer, and a reader can hold any number of them.
const LONGEST_CENSUS: Duration = Duration::from_millis(500);

/// The attachment of this process (and of those that it forks) to an object.
/// Dropped last of all that belongs to the segment.
///
/// The kernel keeps the lock for as long as the open file has a descriptor *or a
/// mapping*. So a process that closes the descriptor (`closefrom`) stays attached,
/// except on overlayfs, which maps another file than it opens.
#[derive(Debug)]
pub(in crate::segment) struct Registration {
    file: Option<CheckedFd>,
    identity: (u64, u64),
    path: PathBuf,
    removal: Removal,
    /// Another description of the object, which takes the name away if it must.
    visitor: Option<OwnedFd>,
}

impl Registration {
    /// Takes the lock. Waits for a remover that is at work. Until it is
    /// [armed](Self::arm), dropping this leaves the name alone.
    pub(in crate::segment) fn new(
        file: OwnedFd,
        path: PathBuf,
        access: Access,
    ) -> io::Result<Self> {
        ofd_lock::lock(&file, LockKind::Shared, own_byte(access), PATIENCE)?;
        let file = CheckedFd::new(file)?;
        Ok(Self {
            identity: file.identity(),
            file: Some(file),
            path,
            removal: Removal::Persistent,
            visitor: None,
        })
    }

    /// From here on this process is a user, whose leaving may take the name away.
    pub(in crate::segment) fn set_removal(&mut self, removal: Removal) {
        self.removal = removal;
    }

    /// Returns the descriptor; an error if the program has closed it.
    pub(in crate::segment) fn file(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.file {
            Some(file) => file.get(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Returns device and inode number of the object.
    pub(in crate::segment) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Whether its name leads to the object at this moment.
    pub(in crate::segment) fn has_its_name(&self) -> io::Result<bool> {
        leads_to_object(&self.path, self.identity)
    }

    /// Opens the object once more by its name. `None` if the name leads elsewhere.
    pub(in crate::segment) fn open_again(&self, access: Access) -> io::Result<Option<OwnedFd>> {
        let Some(file) = regular_file::open(&self.path, access)? else {
            return Ok(None);
        };
        let is_ours = regular_file::fstat(&file)?.identity == self.identity;
        Ok(is_ours.then_some(file))
    }

    /// Returns the processes that say by a lock that they are attached; among
    /// `doubtful` ones also if there are too many locks to ask for each.
    pub(in crate::segment) fn attached_pids(&self, doubtful: &[u32]) -> io::Result<Vec<u32>> {
        let again;
        let file = match self.file() {
            Ok(file) => file,
            Err(_) => match self.open_again(Access::ReadOnly) {
                Ok(Some(file)) => {
                    again = file;
                    again.as_fd()
                }
                // Its name is gone as well: nothing is left to ask by.
                _ => return Ok(Vec::new()),
            },
        };
        attached_pids(file, doubtful)
    }

    /// Prepares to take the name away, if that is to be done. Called while the object
    /// is still mapped, so that nothing else can have its inode number.
    pub(in crate::segment) fn prepare_to_leave(&mut self) {
        if self.removal == Removal::Persistent {
            return;
        }
        // By a description of its own, which no forked child shares: theirs must
        // count as anybody's.
        let mut visitor = self.open_again(Access::ReadWrite);
        if let Err(error) = &visitor {
            if regular_file::is_descriptor_limit(error) {
                // The segment's own descriptor makes room for it.
                self.file = None;
                visitor = self.open_again(Access::ReadWrite);
            }
        }
        self.visitor = visitor.ok().flatten();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // A process that can't remove it leaves it to others, and to `gc`.
        let remover = self.visitor.take();
        let remover = remover.and_then(|visitor| RemovalLock::new(visitor, PATIENCE).ok());
        // After `REMOVAL` is locked: an opener sees a user or a remover, as long as this
        // process may still count it.
        self.file = None;
        if let Some(remover) = remover {
            let _ = remover.remove_if_abandoned(&self.path);
        }
    }
}

/// Returns whether a process is attached at this moment, or about to take the name away.
///
/// An opener asks this before it attaches. If it then fails to open the object, a user that
/// left meanwhile has counted it. So it leaves as a user does, and takes the name away if
/// it is the last one. If no process was attached, the object was left by a crash, and a
/// failing opener must not remove it. If the kernel refuses to answer, it stays.
pub(in crate::segment) fn is_in_use(file: impl AsFd) -> bool {
    let range = ByteRange {
        start: REMOVAL.start,
        len: REMOVAL.len + ATTACHED.len,
    };
    ofd_lock::conflicting_lock(file, range).is_ok_and(|lock| lock.is_some())
}

/// What became of an object that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemoveOutcome {
    /// It had no user, and has no name any more.
    Removed,
    /// Somebody is attached.
    InUse,
    /// It had lost its name already.
    Gone,
}

/// Whether a remover trusts the owner of an object to keep it waiting only with reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::segment) enum Owner {
    Trusted,
    /// Any user: see [`PATIENCE_WITH_STRANGERS`].
    Untrusted,
}

/// Takes the name `path` away from the object behind `visitor` if no process is
/// attached to it. `visitor` is open for writing, and has no attachment.
pub(in crate::segment) fn remove_if_abandoned(
    visitor: OwnedFd,
    path: &Path,
    owner: Owner,
) -> io::Result<RemoveOutcome> {
    let patience = match owner {
        Owner::Trusted => PATIENCE,
        Owner::Untrusted => PATIENCE_WITH_STRANGERS,
    };
    RemovalLock::new(visitor, patience)?.remove_if_abandoned(path)
}

/// Whoever holds [`REMOVAL`]. Dropped, all its locks are given back: by name, as a
/// child that another thread forked meanwhile has a copy of the descriptor.
struct RemovalLock(OwnedFd);

impl RemovalLock {
    fn new(visitor: OwnedFd, patience: LockTimeout) -> io::Result<Self> {
        ofd_lock::lock(&visitor, LockKind::Exclusive, REMOVAL, patience)?;
        Ok(Self(visitor))
    }

    /// Takes the name `path` away if no process is attached.
    fn remove_if_abandoned(self, path: &Path) -> io::Result<RemoveOutcome> {
        if !ofd_lock::try_lock(&self.0, LockKind::Exclusive, ATTACHED)? {
            return Ok(RemoveOutcome::InUse);
        }
        if !leads_to(path, &self.0)? {
            return Ok(RemoveOutcome::Gone);
        }
        regular_file::unlink(path)?;
        Ok(RemoveOutcome::Removed)
        // Both locks are unlocked after the name is gone.
    }
}

impl Drop for RemovalLock {
    fn drop(&mut self) {
        for range in [ATTACHED, REMOVAL] {
            let _ = ofd_lock::unlock(&self.0, range);
        }
    }
}

/// Takes the name `path` away from whatever has it, whoever is attached.
pub(in crate::segment) fn unlink(path: &Path) -> io::Result<()> {
    loop {
        let visitor = match regular_file::open(path, Access::ReadWrite) {
            Ok(Some(visitor)) => visitor,
            // What gets the name from now on is not what was to be unlinked, and may be
            // what a remover has just looked at.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            // What can't be opened so is none of ours, or not ours to lock.
            _ => return regular_file::unlink(path),
        };
        let remover = match RemovalLock::new(visitor, PATIENCE) {
            Ok(remover) => remover,
            Err(error) => match Blocked::of(&error).map(|blocked| blocked.kind) {
                Some(LockKind::Exclusive) => return Err(error), // a remover at work
                // A reader, which must not keep the owner from this; or a file system
                // without locks. No remover holds `REMOVAL` then.
                Some(LockKind::Shared) | None => return regular_file::unlink(path),
            },
        };
        if leads_to(path, &remover.0)? {
            return regular_file::unlink(path);
        }
    }
}

/// Whether the name `path` leads to the object behind `file` at this moment.
fn leads_to(path: &Path, file: impl AsFd) -> io::Result<bool> {
    leads_to_object(path, regular_file::fstat(file)?.identity)
}

/// Whether the name `path` leads to the object with this device and inode number.
fn leads_to_object(path: &Path, identity: (u64, u64)) -> io::Result<bool> {
    match regular_file::lstat(path) {
        Ok(now) => Ok(now.identity == identity),
        // A directory of the path is gone, or a file has its name now.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Returns the ids of the processes that attached themselves, and are still attached, or
/// a child of theirs is, in ascending order. Changes nothing; any descriptor of the
/// object will do. If there are too many locks to ask for each, it asks for the
/// `doubtful` processes, of which nothing else is known.
pub(crate) fn attached_pids(file: impl AsFd, doubtful: &[u32]) -> io::Result<Vec<u32>> {
    let Registered {
        mut pids,
        is_complete,
    } = registered_in_time(&file)?;
    if !is_complete {
        pids.extend(registered_of(file, doubtful)?);
        pids.sort_unstable();
        pids.dedup();
    }
    Ok(pids)
}

/// The processes that say by a lock that they are attached.
struct Registered {
    /// Their ids, in ascending order.
    pids: Vec<u32>,
    /// Whether these are all. There may be too many locks to ask for each.
    is_complete: bool,
}

/// The kernel tells one lock at a time. So this asks once for each lock and once for
/// each gap, until the time is up ([`LONGEST_CENSUS`]).
fn registered_in_time(file: impl AsFd) -> io::Result<Registered> {
    let until = Deadline::after(LONGEST_CENSUS);
    let mut found = Vec::new();
    let mut unknown = vec![ATTACHED];
    while let Some(range) = unknown.pop() {
        if range.len == 0 {
            continue;
        }
        if until.has_passed() {
            unknown.push(range);
            break;
        }
        let Some(lock) = ofd_lock::conflicting_lock(&file, range)? else {
            continue;
        };
        let start = lock.start.max(range.start);
        let end = lock
            .start
            .saturating_add(lock.len)
            .min(range.start + range.len);
        // Longer ones are a remover's.
        if lock.len == 1 {
            found.extend(u32::try_from((start - ATTACHED.start) % WRITERS.len).ok());
        }
        unknown.push(ByteRange {
            start: range.start,
            len: start - range.start,
        });
        unknown.push(ByteRange {
            start: end,
            len: range.start + range.len - end,
        });
    }
    found.sort_unstable();
    found.dedup();
    Ok(Registered {
        pids: found,
        is_complete: unknown.is_empty(),
    })
}

/// Returns those of `pids` that say by a lock that they are attached. Asks twice for
/// each of them, until the time is up ([`LONGEST_CENSUS`]).
fn registered_of(file: impl AsFd, pids: &[u32]) -> io::Result<Vec<u32>> {
    let until = Deadline::after(LONGEST_CENSUS);
    let mut found = Vec::new();
    for pid in pids {
        if until.has_passed() {
            break;
        }
        for access in [Access::ReadWrite, Access::ReadOnly] {
            let byte = byte_of(*pid, access);
            // A longer one is a remover's.
            if ofd_lock::conflicting_lock(&file, byte)?.is_some_and(|lock| lock.len == 1) {
                found.push(*pid);
                break;
            }
        }
    }
    Ok(found)
}

/// Whoever alone may bring the locks in an object back to life. Dropped, another may.
#[derive(Debug)]
pub(in crate::segment) struct ReinitLock(OwnedFd);

impl ReinitLock {
    /// Waits until nobody else is at it.
    pub(in crate::segment) fn new(file: &OwnedFd) -> io::Result<Self> {
        let file = file.try_clone()?;
        ofd_lock::lock(&file, LockKind::Exclusive, REVIVAL, PATIENCE)?;
        Ok(Self(file))
    }

    /// Keeps all others away who may use the locks, until [`admit_others`](Self::admit_others).
    /// Returns false if one of them is attached.
    pub(in crate::segment) fn exclude_others(&self) -> io::Result<bool> {
        ofd_lock::try_lock(&self.0, LockKind::Exclusive, WRITERS)
    }

    /// Unlocks the own byte as well: for a process that is not to become a user.
    pub(in crate::segment) fn leave(&self) -> io::Result<()> {
        ofd_lock::unlock(&self.0, WRITERS)
    }

    /// Keeps of the lock what every attached process has.
    pub(in crate::segment) fn admit_others(&self) -> io::Result<()> {
        let own = own_byte(Access::ReadWrite);
        ofd_lock::lock(&self.0, LockKind::Shared, own, PATIENCE)?;
        let end = WRITERS.start + WRITERS.len;
        for (start, end) in [(WRITERS.start, own.start), (own.start + own.len, end)] {
            if start < end {
                let len = end - start;
                ofd_lock::unlock(&self.0, ByteRange { start, len })?;
            }
        }
        Ok(())
    }
}

impl Drop for ReinitLock {
    fn drop(&mut self) {
        let _ = ofd_lock::unlock(&self.0, REVIVAL);
    }
}

fn own_byte(access: Access) -> ByteRange {
    byte_of(std::process::id(), access)
}

/// The byte by which a process says that it is attached.
fn byte_of(pid: u32, access: Access) -> ByteRange {
    let range = match access {
        Access::ReadWrite => WRITERS,
        Access::ReadOnly => READERS,
    };
    // The kernel's ids have 22 bits at most; glibc's and the futex's, 30.
    let offset = u64::from(pid) % range.len;
    ByteRange {
        start: range.start + offset,
        len: 1,
    }
}
