//! Looking at shared memory from outside: which segments there are, who uses
//! them, which locks are held by whom. For any segment, whatever it holds.
//!
//! ```
//! use shm_sync::inspect::{self, Content, Scope};
//!
//! # fn main() -> Result<(), shm_sync::Error> {
//! for object in inspect::objects(Scope::Segments)? {
//!     if let Content::Segment(segment) = &object.content {
//!         println!("{}: {}", object.name, segment.layout.type_name);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # What a look does, and what not
//!
//! It reads. It takes no lock and waits for none, so it works on a segment whose
//! lock is held by a process that is stopped, and nobody inside notices. Objects
//! may be anything: what can't be read is told as such.
//!
//! What it finds is no snapshot. The processes go on while it looks: by the time
//! a lock is reported as held, it may be free. It is for people, and no proof of
//! anything.
//!
//! A System V segment can be read only by attaching it, which the kernel notes in
//! the segment's times. It is left as its own users leave it: if they are all gone
//! meanwhile, and it was to be removed by the last one, it is removed. For that its
//! lock is tried, but never waited for.
//!
//! In a segment to which others than this user and root may write, no lock is even
//! tried, and nothing that it says is acted upon. If its last user leaves at the moment
//! of a look, it may stay behind, for `gc`.
//!
//! # What it may see
//!
//! Objects that this user may read, and the mappings of this user's own processes;
//! root sees all. Ids are those of our own pid namespace.

mod census;
mod file;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod locks;
mod poison;
mod source;

use std::time::SystemTime;

use crate::error::{Error, Layout};
use crate::os::mem;
use crate::os::proc::task;
use crate::segment::internals::{Permissions, RemoveOutcome, remove_if_abandoned};
use crate::segment::{Address, Backing, Removal};
use crate::sync::snapshot;

pub use crate::printable::{is_printable, printable};
pub use crate::sync::snapshot::{CondvarState, Waiters};
pub use poison::{ClearPoisonError, clear_poison};

/// Which objects to list.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The segments of this crate, of every backing, whatever state they are in;
    /// and what may not be read, since it may be one.
    ///
    /// Files and segments without a name are found through the processes that map
    /// them; a file that nobody maps is not found.
    Segments,
    /// Also all else that is in `/dev/shm` and in System V.
    Everything,
}

/// An object that holds shared memory, or looks as if it did.
#[non_exhaustive]
#[derive(Debug)]
pub struct Object {
    /// For people. The [address](Self::address), if there is one. It may hold any
    /// character, because its creator chose it: see [`printable`].
    pub name: String,
    /// How to get at it again.
    pub address: Option<Address>,
    /// Which kind of memory it is.
    pub backing: Backing,
    /// Whether it can still be found by its name.
    pub link: Link,
    /// In bytes.
    pub len: u64,
    /// How much of it is in memory, in pages of [`page_size`] bytes, if that is
    /// known.
    pub resident_pages: Option<u64>,
    /// The id of the user who owns it.
    pub owner: u32,
    /// The id of its group.
    pub group: u32,
    /// The permission bits.
    pub mode: u32,
    /// Who uses it.
    pub users: Users,
    /// What is in it.
    pub content: Content,
}

impl Object {
    /// Whether anybody uses it.
    #[must_use]
    pub fn state(&self) -> State {
        let Users {
            pids,
            attachments,
            unreadable_processes: unseen,
        } = &self.users;
        match attachments {
            _ if !pids.is_empty() => State::Live,
            Some(0) => State::Stale,
            Some(_) => State::Live,
            None if *unseen == 0 => State::Stale,
            None => State::Unknown,
        }
    }
}

/// Whether an object has a name.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// It can be opened by its name.
    Named,
    /// It had a name and lost it. It lives on until its last user has gone.
    Unlinked,
    /// It never had one.
    Nameless,
}

/// Whether anybody uses an object.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Somebody is attached.
    Live,
    /// Nobody is.
    Stale,
    /// Those who might be belong to others.
    Unknown,
}

/// Who uses an object.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// The processes that are known to have it mapped, in ascending order.
    pub pids: Vec<u32>,
    /// How many attachments there are, as far as the kernel keeps count of them:
    /// those of System V, and the locks by which a named segment knows its users.
    /// It counts those in other containers, too. Where a program holds thousands of
    /// locks on the object, there are at least so many.
    pub attachments: Option<u64>,
    /// How many processes could not be asked what they map. Those that `/proc` hides
    /// (`hidepid`) can't be counted: all together are one.
    pub unreadable_processes: usize,
}

/// What an object holds.
#[non_exhaustive]
#[derive(Debug)]
pub enum Content {
    /// A segment of this crate.
    Segment(Box<Segment>),
    /// A System V segment that its creator is filling, or died filling.
    Unfinished,
    /// A segment that can't be read: of another version
    /// ([`Error::UnsupportedFormat`]), damaged or cut short ([`Error::Corrupt`]).
    Unreadable(Error),
    /// What it is can't be said, because it may not be opened
    /// ([`Error::PermissionDenied`]), or can't be.
    Inaccessible(Error),
    /// Something else.
    Foreign(FileKind),
}

impl Content {
    /// The segment, if it is one that can be read.
    #[must_use]
    pub fn segment(&self) -> Option<&Segment> {
        match self {
            Self::Segment(segment) => Some(segment),
            _ => None,
        }
    }
}

/// What kind of thing has a name in a file system.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// Memory: a file, or a System V segment.
    Memory,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO, a socket, or a device.
    Special,
}

/// What the header of a segment says.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The type, and how it is laid out.
    pub layout: Layout,
    /// Where the value begins, in bytes.
    pub value_offset: u64,
    /// How many elements it has, if that was chosen at creation.
    pub elements: u64,
    /// What becomes of it when nobody is attached.
    pub removal: Removal,
    /// The process that made it. It need not be alive.
    pub creator: u32,
    /// When it was made.
    pub created: Option<SystemTime>,
    /// The pid namespace of those who lock in it: an inode number.
    pub pid_namespace: u32,
    /// Whether its locks mean something here and now.
    pub epoch: Epoch,
    /// What its locks say, in sum. `None` if it was made on a platform with other
    /// locks.
    pub locks: Option<Locks>,
}

/// When and where the locks of a segment came to life.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epoch {
    /// In this boot of the machine, in this file, in our pid namespace.
    Current,
    /// In another pid namespace: thread ids mean something else there. If no process is
    /// attached to a System V segment, the next opener makes its locks anew.
    OtherNamespace,
    /// Not known, because this process can't read the boot's id or its own pid
    /// namespace.
    Unknown,
    /// In another boot of the machine, or in the file of which this one is a copy.
    /// Whoever held a lock is gone; whoever opens the segment next brings the locks
    /// back to life.
    Past,
}

/// The locks of a segment in sum.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locks {
    /// How many mutexes and condition variables there are.
    pub objects: u64,
    /// How many of them were looked at: all, up to a limit of a million.
    pub counted: u64,
    /// How many mutexes are held, also by the dead.
    pub held: u64,
    /// How many mutexes have data in doubt.
    pub poisoned: u64,
}

/// A segment and its sync objects.
#[non_exhaustive]
#[derive(Debug)]
pub struct Details {
    /// The object.
    pub object: Object,
    /// Its sync objects, in the order of the type, as many as were asked for.
    /// Those that are free and clean are left out first.
    pub sync_objects: Vec<SyncObject>,
    /// How many were left out.
    pub omitted: u64,
}

/// A mutex or condition variable in a segment.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncObject {
    /// Which field it is, seen from the value: `.workers[3].lock`. Empty if it is
    /// the value.
    pub path: String,
    /// In bytes from the start of the value.
    pub offset: u64,
    /// What it says.
    pub state: SyncState,
}

/// What a mutex or condition variable says.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyncState {
    /// A [`ShmMutex`](crate::ShmMutex).
    Mutex(MutexState),
    /// A [`ShmCondvar`](crate::ShmCondvar).
    Condvar(CondvarState),
    /// A [`PthreadCondvar`](crate::PthreadCondvar), which is libc's business.
    PthreadCondvar,
    /// The segment became shorter meanwhile, or can't be read there.
    Unreadable,
}

/// The state of a mutex.
pub type MutexState = snapshot::MutexState<Holder>;

/// Whether a thread holds a mutex.
pub type LockState = snapshot::LockState<Holder>;

/// The thread that holds a mutex.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process; 0 if that is unknown.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// What became of it.
    pub state: HolderState,
    /// The name of the thread, as the kernel shows it. It may hold any character: see
    /// [`printable`].
    pub command: Option<String>,
    /// When the thread began to run: the lock was taken since. When, nobody has
    /// noted.
    pub thread_started: Option<SystemTime>,
}

/// What became of the holder of a lock.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HolderState {
    /// It is alive.
    Alive,
    /// It is alive, but a signal or a debugger has stopped it.
    Stopped,
    /// There is no such thread (any more), so nobody will give the lock back.
    Dead,
    /// Its id means nothing here: it belongs to another pid namespace.
    Unknown,
}

/// A part of a process's memory that is shared.
#[non_exhaustive]
#[derive(Debug)]
pub struct Attachment {
    /// The addresses in that process.
    pub addresses: std::ops::Range<u64>,
    /// Whether it can write there.
    pub access: Access,
    /// Where in the object it begins, in bytes.
    pub offset: u64,
    /// What is mapped.
    pub object: Object,
}

/// What a process may do with what it has mapped.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

/// The size of a page, in bytes.
#[must_use]
pub fn page_size() -> u64 {
    mem::page_size() as u64
}

/// The name of a user, if `/etc/passwd` has one.
#[must_use]
pub fn user_name(id: u32) -> Option<String> {
    task::user_name(id)
}

/// What a process calls itself, if there is such a process. It may hold any
/// character: see [`printable`].
#[must_use]
pub fn command_of(pid: u32) -> Option<String> {
    Some(task::task(pid).ok()??.command)
}

/// All objects, sorted by backing and name.
///
/// What can't be read is listed as such, and what vanishes meanwhile is left out.
///
/// # Errors
///
/// [`Error::Os`]: `/proc` can't be read.
pub fn objects(scope: Scope) -> Result<Vec<Object>, Error> {
    census::objects(scope)
}

/// The object of that address, whatever it is.
///
/// ```
/// use shm_sync::inspect::{self, State};
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-inspect-{}", std::process::id());
/// # let name = name.as_str();
/// let segment = Segment::create(name, ShmMutex::new(0_u64))?;
/// let object = inspect::object(&name.parse()?)?;
/// assert_eq!(object.state(), State::Live);
/// assert_eq!(object.users.pids, [std::process::id()]);
/// # drop(segment);
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// * [`Error::NotFound`]: there is none.
/// * [`Error::PermissionDenied`]: it can't even be looked for.
/// * [`Error::Os`].
pub fn object(address: &Address) -> Result<Object, Error> {
    Ok(census::find(address)?.0)
}

/// The object of that address, and its sync objects: at most `limit` of them.
///
/// ```
/// use shm_sync::inspect::{self, Fate, LockState, SyncState};
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-details-{}", std::process::id());
/// # let name = name.as_str();
/// let segment = Segment::create(name, ShmMutex::new(0_u64))?;
/// let guard = segment.lock()?;
///
/// let details = inspect::details(&name.parse()?, 1000)?;
/// let SyncState::Mutex(mutex) = &details.sync_objects[0].state else {
///     panic!("it is a mutex");
/// };
/// let LockState::Held(holder) = &mutex.lock else {
///     panic!("it is held");
/// };
/// assert_eq!((holder.pid, holder.fate), (std::process::id(), Fate::Alive));
/// # drop(guard);
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`object`].
pub fn details(address: &Address, limit: usize) -> Result<Details, Error> {
    let (object, opened) = census::find(address)?;
    let (sync_objects, left_out) = match (&object.content, opened) {
        (Content::Segment(segment), Some(opened)) if segment.locks.is_some() => {
            locks::list(&opened, segment.epoch, limit)
        }
        _ => (Vec::new(), 0),
    };
    Ok(Details {
        object,
        sync_objects,
        omitted: left_out,
    })
}

/// The sync object of that [path](SyncOps::path), if the segment has one.
///
/// ```
/// use shm_sync::inspect::{self, LockState, SyncState};
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-sync-object-{}", std::process::id());
/// # let name = name.as_str();
/// let segment = Segment::create(name, (ShmMutex::new(0_u64), 7_u32))?;
/// let lock = inspect::sync_object(&name.parse()?, ".0")?;
/// let Some(SyncState::Mutex(mutex)) = lock.map(|lock| lock.state) else {
///     panic!("it is a mutex");
/// };
/// assert_eq!(mutex.lock, LockState::Free);
/// assert_eq!(inspect::sync_object(&name.parse()?, ".1")?, None);
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`object`]; and [`Error::NotASegment`], [`Error::UnsupportedFormat`],
/// [`Error::Corrupt`] if it can't be read, or is of another platform.
pub fn sync_object(address: &Address, path: &str) -> Result<Option<SyncObject>, Error> {
    let (segment, opened) = census::find_readable(address)?;
    Ok(locks::find(&opened, segment.epoch, path))
}

/// What a process has attached, in the order of its addresses.
///
/// # Errors
///
/// * [`Error::NotFound`]: there is no such process.
/// * [`Error::PermissionDenied`]: it belongs to another user.
/// * [`Error::Os`].
pub fn attachments_of(pid: u32, scope: Scope) -> Result<Vec<Attachment>, Error> {
    census::attachments_of(pid, scope)
}

/// Removes the segment of that address if nobody is attached to it: its name, and
/// so, its memory. Also one that is damaged, or of another version of this crate, or of
/// another pid namespace.
///
/// Waits for no lock in a System V segment. If others than this user and root may write
/// to the segment, or if it is damaged, the kernel's count of attachments alone decides.
/// A process that attaches between the count and the removal keeps its memory, but the
/// key is gone, as after [`unlink`](crate::unlink).
///
/// # Errors
///
/// * [`Error::InUse`]: somebody is attached. Nothing was changed.
/// * [`Error::NotFound`]: there is none.
/// * [`Error::NotASegment`]: it is something else, which is not ours to remove.
/// * [`Error::Blocked`]: another process keeps this one from asking.
/// * [`Error::PermissionDenied`], [`Error::Os`].
///
/// # Example
///
/// ```
/// use shm_sync::{Error, Segment, ShmMutex, inspect};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-remove-{}", std::process::id());
/// # let name = name.as_str();
/// let segment = Segment::create(name, ShmMutex::new(0_u64))?;
/// let refused = inspect::remove(&name.parse()?);
/// assert!(matches!(refused, Err(Error::InUse)));
///
/// drop(segment);
/// inspect::remove(&name.parse()?)?;
/// # Ok(())
/// # }
/// ```
pub fn remove(address: &Address) -> Result<(), Error> {
    let (object, _) = census::find(address)?;
    // Other versions may know no attachment, but they do map.
    let is_strange = matches!(object.content, Content::Unreadable(_));
    if is_strange && !object.users.pids.is_empty() {
        return Err(Error::InUse);
    }
    let anybody = Permissions::without_owner_check();
    match remove_if_abandoned(&anybody, &address.target()?)? {
        RemoveOutcome::Removed => Ok(()),
        RemoveOutcome::InUse => Err(Error::InUse),
        RemoveOutcome::Gone => Err(Error::NotFound),
    }
}
