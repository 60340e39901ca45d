//! How the kernel knows which processes use an object with a name, and which is the
//! last.
//!
//! Each attached process holds a shared OFD lock on one byte of the object, far behind
//! its end. The kernel unlocks it when the last descriptor of the open file is closed,
//! however the processes that have it end. A forked child is attached by the open file
//! that it inherits. "Is a process attached?" is `F_OFD_GETLK` on these bytes, which
//! changes nothing.
//!
//! # The byte ranges
//!
//! ```text
//!   2^62 - 2   2^62 - 1   2^62                 2^62 + 2^30          2^62 + 2^31
//!   +----------+----------+--------------------+--------------------+
//!   |  REINIT  | REMOVAL  |      WRITERS       |      READERS       |
//!   |  1 byte  |  1 byte  |  1 byte for a pid  |  1 byte for a pid  |
//!   +----------+----------+--------------------+--------------------+
//!                         |<-------------- ATTACHED --------------->|
//! ```
//!
//! | lock | held by | means |
//! |---|---|---|
//! | shared, one byte of [`WRITERS`] | a process that may use the locks, while attached | the object is in use |
//! | shared, one byte of [`READERS`] | a process that only reads, while attached | the object is in use |
//! | exclusive, all of [`ATTACHED`] | a remover, for a moment | no process is attached, and openers wait |
//! | exclusive, [`REMOVAL`] | a remover | the name leads to this object until the remover removes it |
//! | exclusive, [`REINIT`] | a process that reinitialises stale locks, until it is attached | no other process reinitialises them |
//! | exclusive, all of [`WRITERS`] | the same process, meanwhile | no process uses the locks, and openers that may write wait |
//!
//! # Removing a name
//!
//! 1. Attach: take the shared lock on your own byte, then check that the name still
//!    refers to this object. If not, start over.
//! 2. Remove: lock `REMOVAL`, try to lock all of `ATTACHED`, then check that the name
//!    still refers to this object.
//!
//! So the removed name was that of an object without users, and no process attaches to
//! that object later. Step 2 finds each process that attached earlier. Each process
//! that comes later finds the change of the name in step 1. Every remover of this crate
//! locks `REMOVAL` of the object that the name leads to, so the name cannot pass to
//! another object between the check and the removal. ([`unlink`](crate::unlink) removes
//! a name in spite of attached processes. It locks `REMOVAL` only.)
//!
//! # Reinitialising stale locks
//!
//! The header says for which boot, file and pid namespace the locks are valid. If a
//! writer finds the locks stale, it locks `REINIT`, then its own byte, and then tries
//! to lock all of `WRITERS`. If that fails, another writer considers the locks valid:
//! they are not reinitialised, and the opener is refused. If it succeeds, each later
//! writer waits for its own byte, and reads the header again afterwards. Readers do not
//! wait, because they do not use the locks. While locks are being reinitialised the
//! stored epoch is invalid, so a crash in between is detected by the next opener.
//!
//! Two processes never use the locks at once if the locks are valid for one of them
//! only. Say they are valid for pid namespace A, and a process of B opens the object:
//!
//! 1. A user has a lock in `WRITERS`, and read the header *after* it had that lock.
//! 2. The header changes only while one process has all of `WRITERS`. At that time
//!    there is no user. So each user finds its own namespace in the header.
//! 3. If A comes first, B does not get `WRITERS`. If B comes first, A waits for its own
//!    byte, then finds B in the header, and the locks are stale for A. Two processes
//!    that both find A gone take turns, because each locks `REINIT`.
//!
//! OFD locks belong to open files, and not to process ids, so they exclude each other
//! across pid namespaces. Two processes of different namespaces may have the same id,
//! and so the same byte. Their shared locks on it are compatible.
//!
//! A refused process unlocks `WRITERS` before `REINIT`, so that the next process of its
//! namespace does not take it for a user.
//!
//! The kernel may reuse the number of a namespace that is gone. The locks then look
//! valid, and they are: a namespace is gone after its last thread, and the kernel has
//! walked the robust list of each of its threads, also of those that were killed with
//! their container. Locks that they held have `FUTEX_OWNER_DIED`.
//!
//! # Crash behaviour
//!
//! A crash at any point leaves no lock held, and the name either present or absent.
//!
//! # Waiting
//!
//! A process that may only read the object can hold shared locks on any byte. So each
//! call that waits for a lock has a deadline ([`TIMEOUT`]). The table in
//! docs/decisions/attachment-by-ofd-locks.md goes through all ranges.

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

/// One byte for each process id, beyond the end of every file: processes that may use
/// the locks.
const WRITERS: ByteRange = ByteRange {
    start: 1 << 62,
    len: 1 << 30,
};

/// One byte for each process id: processes that only read.
const READERS: ByteRange = ByteRange {
    start: WRITERS.start + WRITERS.len,
    len: WRITERS.len,
};

/// [`WRITERS`] and [`READERS`].
const ATTACHED: ByteRange = ByteRange {
    start: WRITERS.start,
    len: WRITERS.len + READERS.len,
};

const REMOVAL: ByteRange = ByteRange {
    start: ATTACHED.start - 1,
    len: 1,
};

const REINIT: ByteRange = ByteRange {
    start: REMOVAL.start - 1,
    len: 1,
};

/// How long a call waits for one of these locks.
///
/// Processes of this crate hold an exclusive lock for microseconds, or for as long as
/// it takes to reinitialise every lock of a large segment, unless they are stopped.
/// They hold no shared lock that another process waits for. A shared lock is waited for
/// only as long as a backup program may read the file.
const TIMEOUT: LockTimeout = LockTimeout {
    with_shared: Duration::from_millis(250),
    with_exclusive: Duration::from_secs(10),
};

/// How long a removal by the tool waits. An untrusted owner can lock many objects
/// exclusively, and so delay root at each of them. A remover of this crate holds an
/// exclusive lock for microseconds.
const TIMEOUT_IF_UNTRUSTED: LockTimeout = LockTimeout {
    with_shared: TIMEOUT.with_shared,
    with_exclusive: TIMEOUT.with_shared,
};

/// How long [`attached_pids`] asks. The kernel searches all locks of the file for each
/// answer, and a reader can hold any number of them.
const LIST_TIMEOUT: Duration = Duration::from_millis(500);

/// The registration of this process, and of the children that it forks, as users of an
/// object.
///
/// The kernel keeps the lock while the open file has a descriptor *or a mapping*. So a
/// process that closes the descriptor (`closefrom`) stays attached, except on
/// overlayfs, which maps another file than it opens.
#[derive(Debug)]
pub(in crate::segment) struct Registration {
    file: Option<CheckedFd>,
    identity: (u64, u64),
    path: PathBuf,
    removal: Removal,
}

impl Registration {
    /// Takes the shared lock on the byte of this process. Waits for a concurrent
    /// remover. `identity` is the device and inode number of the file. Until
    /// [`set_removal`](Self::set_removal) is called, no method removes the name.
    /// Dropping the registration never does.
    pub(in crate::segment) fn new(
        file: OwnedFd,
        identity: (u64, u64),
        path: PathBuf,
        access: Access,
    ) -> io::Result<Self> {
        ofd_lock::lock(&file, LockKind::Shared, own_byte(access), TIMEOUT)?;
        let file = CheckedFd::new(file, identity)?;
        Ok(Self::of_registered(file, path, Removal::Persistent))
    }

    /// Takes over a file on which this process has locked its own byte.
    pub(in crate::segment) fn of_registered(
        file: CheckedFd,
        path: PathBuf,
        removal: Removal,
    ) -> Self {
        Self {
            identity: file.identity(),
            file: Some(file),
            path,
            removal,
        }
    }

    /// Sets what happens to the name when this process detaches last.
    pub(in crate::segment) fn set_removal(&mut self, removal: Removal) {
        self.removal = removal;
    }

    /// Returns the descriptor.
    ///
    /// # Errors
    ///
    /// The program has closed it.
    pub(in crate::segment) fn file(&self) -> io::Result<BorrowedFd<'_>> {
        match &self.file {
            Some(file) => file.get(),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Returns the device and the inode number of the object.
    pub(in crate::segment) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Returns whether the name leads to the object at this moment.
    pub(in crate::segment) fn has_its_name(&self) -> io::Result<bool> {
        leads_to_object(&self.path, self.identity)
    }

    /// Opens the object again by its name. Returns `None` if the name leads elsewhere.
    fn open_again(&self, access: Access) -> io::Result<Option<OwnedFd>> {
        let Some(file) = regular_file::open(&self.path, access)? else {
            return Ok(None);
        };
        let is_ours = regular_file::fstat(&file)?.identity == self.identity;
        Ok(is_ours.then_some(file))
    }

    /// Returns the processes that are registered as attached: see [`attached_pids`].
    pub(in crate::segment) fn attached_pids(&self, doubtful: &[u32]) -> io::Result<Vec<u32>> {
        let again;
        let file = match self.file() {
            Ok(file) => file,
            Err(_) => match self.open_again(Access::ReadOnly) {
                Ok(Some(file)) => {
                    again = file;
                    again.as_fd()
                }
                // The name is gone as well, so there is no descriptor for the question.
                _ => return Ok(Vec::new()),
            },
        };
        attached_pids(file, doubtful)
    }

    /// Opens the object for [`leave`](Self::leave), if that may have to remove the
    /// name. The caller still has the object mapped or open, so its inode number cannot
    /// pass to another file.
    ///
    /// # Errors
    ///
    /// Those of opening the object by its name, for `leave`.
    pub(in crate::segment) fn open_remover(&mut self) -> io::Result<Option<OwnedFd>> {
        if self.removal == Removal::Persistent {
            return Ok(None);
        }
        // Forked children do not share this open file, so their attachment locks
        // conflict with its locks.
        match self.open_again(Access::ReadWrite) {
            Err(error) if regular_file::is_descriptor_limit(&error) => {
                // Closing the own descriptor frees a number.
                self.file = None;
                self.open_again(Access::ReadWrite)
            }
            // Another object has the name, and may belong to another user.
            Err(_) if leads_to_object(&self.path, self.identity).is_ok_and(|ours| !ours) => {
                Ok(None)
            }
            remover => remover,
        }
    }

    /// Ends the registration, and removes the name by `remover` if no other process is
    /// attached. `remover` is the result of [`open_remover`](Self::open_remover).
    ///
    /// # Errors
    ///
    /// The name stays, although no other process was found. It is no error if the name
    /// leads to another object, or if a process is attached that can remove it later.
    pub(in crate::segment) fn leave(
        &mut self,
        remover: io::Result<Option<OwnedFd>>,
    ) -> io::Result<()> {
        let lock = match remover {
            Ok(Some(remover)) => RemovalLock::new(remover, TIMEOUT).map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        // This open file does not conflict with itself, so only other users count.
        let has_others = lock.is_err()
            && self.file().is_ok_and(|file| {
                ofd_lock::conflicting_lock(file, ATTACHED).is_ok_and(|lock| lock.is_some())
            });
        // Closed after `REMOVAL` is locked. Until this process has counted the users,
        // an opener finds its attachment lock or its `REMOVAL` lock.
        self.file = None;
        let removed = match lock {
            Ok(Some(lock)) => lock.remove_if_abandoned(&self.path).map(drop),
            Err(error) if !has_others => Err(error),
            Ok(None) | Err(_) => Ok(()),
        };
        match removed {
            Err(error) if is_missing(&error) => Ok(()),
            removed => removed,
        }
    }
}

/// Returns whether a process is attached at this moment, or is about to remove the
/// name.
///
/// An opener calls this before it attaches, if the last user removes the name. If it
/// then fails to open the object, a user that detached meanwhile has counted it. So it
/// detaches as a user does, and removes the name if it is the last one. If no process
/// was attached, a crash has left the object, and a failing opener must not remove it.
/// If the kernel returns an error, the object stays.
pub(in crate::segment) fn is_in_use(file: impl AsFd) -> bool {
    let range = ByteRange {
        start: REMOVAL.start,
        len: REMOVAL.len + ATTACHED.len,
    };
    ofd_lock::conflicting_lock(file, range).is_ok_and(|lock| lock.is_some())
}

/// The result of an attempt to remove an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemoveOutcome {
    /// No process was attached, and the name is removed.
    Removed,
    /// A process is attached.
    InUse,
    /// The object had no name any more.
    Gone,
}

/// Tells whether a remover trusts the owner of an object not to block it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::segment) enum Owner {
    Trusted,
    /// Any user: see [`TIMEOUT_IF_UNTRUSTED`].
    Untrusted,
}

/// Removes the name `path` from the object behind `file` if no process is attached to
/// it. `file` is open for writing, and is not registered.
pub(in crate::segment) fn remove_if_abandoned(
    file: OwnedFd,
    path: &Path,
    owner: Owner,
) -> io::Result<RemoveOutcome> {
    let timeout = match owner {
        Owner::Trusted => TIMEOUT,
        Owner::Untrusted => TIMEOUT_IF_UNTRUSTED,
    };
    RemovalLock::new(file, timeout)?.remove_if_abandoned(path)
}

/// Holds [`REMOVAL`]. `drop` unlocks explicitly: closing the descriptor is not enough,
/// because a concurrently forked child may share it.
struct RemovalLock(OwnedFd);

impl RemovalLock {
    fn new(file: OwnedFd, timeout: LockTimeout) -> io::Result<Self> {
        ofd_lock::lock(&file, LockKind::Exclusive, REMOVAL, timeout)?;
        Ok(Self(file))
    }

    /// Removes the name `path` if no process is attached.
    fn remove_if_abandoned(self, path: &Path) -> io::Result<RemoveOutcome> {
        if !ofd_lock::try_lock(&self.0, LockKind::Exclusive, ATTACHED)? {
            return Ok(RemoveOutcome::InUse);
        }
        if !leads_to(path, &self.0)? {
            return Ok(RemoveOutcome::Gone);
        }
        regular_file::unlink(path)?;
        Ok(RemoveOutcome::Removed)
        // `drop` unlocks both ranges after the name is gone.
    }
}

impl Drop for RemovalLock {
    fn drop(&mut self) {
        for range in [ATTACHED, REMOVAL] {
            let _ = ofd_lock::unlock(&self.0, range);
        }
    }
}

/// Removes the name `path` from any object, whether processes are attached or not.
pub(in crate::segment) fn unlink(path: &Path) -> io::Result<()> {
    loop {
        let file = match regular_file::open(path, Access::ReadWrite) {
            Ok(Some(file)) => file,
            // An object that gets the name from now on is not the one to be unlinked,
            // and a remover may have just checked it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            // The object is no segment of this crate, or this process may not lock it.
            _ => return regular_file::unlink(path),
        };
        let lock = match RemovalLock::new(file, TIMEOUT) {
            Ok(lock) => lock,
            Err(error) => match Blocked::of(&error).map(|blocked| blocked.kind) {
                Some(LockKind::Exclusive) => return Err(error), // a concurrent remover
                // A reader, which must not block the owner, or a file system without
                // locks. No remover holds `REMOVAL` then.
                Some(LockKind::Shared) | None => return regular_file::unlink(path),
            },
        };
        if leads_to(path, &lock.0)? {
            return regular_file::unlink(path);
        }
    }
}

/// Registers this process as attached to a new file, until the last copy of the
/// descriptor is closed. Waits for a concurrent remover.
pub(super) fn register_creator(file: impl AsFd) -> io::Result<()> {
    ofd_lock::lock(file, LockKind::Shared, own_byte(Access::ReadWrite), TIMEOUT)
}

/// Returns whether a process that opens `path` would find the lock of
/// [`register_creator`]. If not, the kernel takes the two openings for different files,
/// which share neither locks nor memory.
pub(super) fn is_seen_at(path: &Path) -> bool {
    match regular_file::open(path, Access::ReadOnly) {
        // If a sandbox refuses the question, the answer is unknown.
        Ok(Some(again)) => {
            ofd_lock::conflicting_lock(again, ATTACHED).map_or(true, |lock| lock.is_some())
        }
        _ => false,
    }
}

/// Returns whether the name `path` leads to the object behind `file` at this moment.
pub(super) fn leads_to(path: &Path, file: impl AsFd) -> io::Result<bool> {
    leads_to_object(path, regular_file::fstat(file)?.identity)
}

/// Returns whether the name `path` leads to the object with this device and inode
/// number.
fn leads_to_object(path: &Path, identity: (u64, u64)) -> io::Result<bool> {
    match regular_file::lstat(path) {
        Ok(now) => Ok(now.identity == identity),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns whether an error means that a path leads to no object: the name is gone, or
/// a directory of the path is, or a file has the name of that directory now.
fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Returns the ids of the registered processes that are still attached, or that have a
/// child that is, in ascending order. Changes nothing, and takes any descriptor of the
/// object.
///
/// If the object has too many locks to list each, this asks for the `doubtful`
/// processes as well, about which nothing else is known.
pub(crate) fn attached_pids(file: impl AsFd, doubtful: &[u32]) -> io::Result<Vec<u32>> {
    let LockHolders {
        mut pids,
        is_complete,
    } = list_lock_holders(&file)?;
    if !is_complete {
        pids.extend(lock_holders_among(file, doubtful)?);
        pids.sort_unstable();
        pids.dedup();
    }
    Ok(pids)
}

/// The processes that hold a lock in [`ATTACHED`].
struct LockHolders {
    /// Their ids, in ascending order.
    pids: Vec<u32>,
    /// Whether these are all. Listing stops after [`LIST_TIMEOUT`].
    is_complete: bool,
}

/// Lists the processes that hold a lock in [`ATTACHED`]. `F_OFD_GETLK` returns one
/// lock, so this makes one call per lock and one per gap.
fn list_lock_holders(file: impl AsFd) -> io::Result<LockHolders> {
    let deadline = Deadline::after(LIST_TIMEOUT);
    let mut found = Vec::new();
    let mut unknown = vec![ATTACHED];
    while let Some(range) = unknown.pop() {
        if range.len == 0 {
            continue;
        }
        if deadline.has_passed() {
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
        // A longer lock is a remover's.
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
    Ok(LockHolders {
        pids: found,
        is_complete: unknown.is_empty(),
    })
}

/// Returns those of `pids` that hold a lock in [`ATTACHED`]. Asks twice for each of
/// them, until [`LIST_TIMEOUT`] has passed.
fn lock_holders_among(file: impl AsFd, pids: &[u32]) -> io::Result<Vec<u32>> {
    let deadline = Deadline::after(LIST_TIMEOUT);
    let mut found = Vec::new();
    for pid in pids {
        if deadline.has_passed() {
            break;
        }
        for access in [Access::ReadWrite, Access::ReadOnly] {
            let byte = byte_of(*pid, access);
            // A longer lock is a remover's.
            if ofd_lock::conflicting_lock(&file, byte)?.is_some_and(|lock| lock.len == 1) {
                found.push(*pid);
                break;
            }
        }
    }
    Ok(found)
}

/// Exclusive permission to reinitialise an object's locks: holds [`REINIT`].
#[derive(Debug)]
pub(in crate::segment) struct ReinitLock(OwnedFd);

impl ReinitLock {
    /// Waits until no other process reinitialises the locks.
    pub(in crate::segment) fn new(file: &OwnedFd) -> io::Result<Self> {
        let file = file.try_clone()?;
        ofd_lock::lock(&file, LockKind::Exclusive, REINIT, TIMEOUT)?;
        Ok(Self(file))
    }

    /// Tries to keep out all processes that may use the locks, until
    /// [`admit_others`](Self::admit_others). Returns `false` if one of them is
    /// attached.
    pub(in crate::segment) fn exclude_others(&self) -> io::Result<bool> {
        ofd_lock::try_lock(&self.0, LockKind::Exclusive, WRITERS)
    }

    /// Unlocks [`WRITERS`], the own byte included: this process does not become a user.
    pub(in crate::segment) fn leave(&self) -> io::Result<()> {
        ofd_lock::unlock(&self.0, WRITERS)
    }

    /// Downgrades to the shared lock that every attached process holds.
    pub(in crate::segment) fn admit_others(&self) -> io::Result<()> {
        let own = own_byte(Access::ReadWrite);
        ofd_lock::lock(&self.0, LockKind::Shared, own, TIMEOUT)?;
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
        let _ = ofd_lock::unlock(&self.0, REINIT);
    }
}

fn own_byte(access: Access) -> ByteRange {
    byte_of(std::process::id(), access)
}

/// Returns the byte that a process locks while it is attached.
fn byte_of(pid: u32, access: Access) -> ByteRange {
    let range = match access {
        Access::ReadWrite => WRITERS,
        Access::ReadOnly => READERS,
    };
    // Process ids of the kernel have at most 22 bits; those of glibc and the futex, 30.
    let offset = u64::from(pid) % range.len;
    ByteRange {
        start: range.start + offset,
        len: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn numbers_are_documented() {
        documented::values(
            "byte ranges",
            &[
                ("WRITERS.start", WRITERS.start),
                ("WRITERS.len", WRITERS.len),
                ("READERS.start", READERS.start),
                ("READERS.len", READERS.len),
                ("ATTACHED.start", ATTACHED.start),
                ("ATTACHED.len", ATTACHED.len),
                ("REMOVAL.start", REMOVAL.start),
                ("REMOVAL.len", REMOVAL.len),
                ("REINIT.start", REINIT.start),
                ("REINIT.len", REINIT.len),
            ],
        );
        documented::values(
            "timeouts of record locks",
            &[
                ("with_shared", TIMEOUT.with_shared.as_millis() as u64),
                ("with_exclusive", TIMEOUT.with_exclusive.as_millis() as u64),
            ],
        );
    }
}
