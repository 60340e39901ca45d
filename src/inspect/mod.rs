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

mod clear_poison;
mod file;
mod find;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod locks;
mod reader;
mod types;

use crate::error::Error;
use crate::os::mem;
use crate::os::proc::task;
use crate::segment::Address;
use crate::segment::internals::{Permissions, RemoveOutcome, remove_if_abandoned};

pub use crate::printable::{is_printable, printable};
pub use crate::sync::snapshot::{CondvarState, Waiters};
pub use clear_poison::{ClearPoisonError, clear_poison};
pub use types::{
    Access, Attachment, Content, Details, Epoch, FileKind, Holder, HolderState, Link, LockState,
    Locks, MutexState, Object, Scope, Segment, State, SyncObject, SyncState, Users,
};

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
    find::objects(scope)
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
    Ok(find::find(address)?.0)
}

/// The object of that address, and its sync objects: at most `limit` of them.
///
/// ```
/// use shm_sync::inspect::{self, HolderState, LockState, SyncState};
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
/// assert_eq!((holder.pid, holder.state), (std::process::id(), HolderState::Alive));
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
    let (object, opened) = find::find(address)?;
    let (sync_objects, omitted) = match (&object.content, opened) {
        (Content::Segment(segment), Some(opened)) if segment.locks.is_some() => {
            locks::list(&opened, segment.epoch, limit)
        }
        _ => (Vec::new(), 0),
    };
    Ok(Details {
        object,
        sync_objects,
        omitted,
    })
}

/// The sync object of that [path](SyncObject::path), if the segment has one.
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
    let (segment, opened) = find::find_readable(address)?;
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
    find::attachments_of(pid, scope)
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
    let (object, _) = find::find(address)?;
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
