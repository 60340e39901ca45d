//! Inspects shared memory from outside: which segments exist, which processes use them,
//! and which threads hold their locks. It works for segments of any type.
//!
//! ```
//! use shm_sync::inspect::{self, Content, Scope, printable};
//!
//! # fn main() -> Result<(), shm_sync::Error> {
//! for object in inspect::objects(Scope::Segments)? {
//!     if let Content::Segment(segment) = &object.content {
//!         // Other users may have chosen the name, so it may contain any character.
//!         println!("{}: {}", printable(&object.name), segment.layout);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | functions | purpose |
//! |---|---|
//! | [`objects`], [`object`] | what is in shared memory, and which processes use it |
//! | [`details`], [`sync_object`] | the locks inside a segment, with their holders |
//! | [`types()`], [`values()`] | the types and the values of a segment of any type |
//! | [`attachments_of`] | the shared memory of one process |
//! | [`remove`], [`clear_poison()`] | remove a segment; clear the poison of a mutex |
//!
//! [`Segment`] and [`Holder`] here are descriptions. They are not the handle
//! [`shm_sync::Segment`](crate::Segment) and the ids
//! [`shm_sync::Holder`](crate::Holder).
//!
//! # Effects
//!
//! Except for [`remove`] and [`clear_poison()`], these functions only read. They lock
//! nothing and wait for nothing, except where stated below. They work while a stopped
//! process holds a lock, and the users of a segment notice nothing. Any object may have
//! any content: unreadable objects are reported as such.
//!
//! The results are not a snapshot, because the processes go on during the call. A mutex
//! that is reported as held may be free already. Use the results for display, not for
//! decisions of a program.
//!
//! A System V segment can only be read while it is attached, and the kernel records the
//! time of each attachment. The functions detach like any user: if all users have
//! detached in the meantime and the segment has
//! [`Removal::UntilLastDetach`](crate::Removal::UntilLastDetach), they remove it. For
//! this they try to lock the segment, and do not wait.
//!
//! If users other than this one and root may write to a segment, the functions do not
//! lock it and do not act on its content. If its last user detaches during the call,
//! the segment may remain. The tool's `gc` removes it.
//!
//! # Permissions
//!
//! The functions report objects that this user may read, and the mappings of this
//! user's own processes. Root may read all. Process and thread ids are those of the pid
//! namespace of this process.

mod clear_poison;
mod file;
mod find;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod locks;
mod reader;
mod types;
mod values;

use crate::error::Error;
use crate::os::mem;
use crate::os::proc::task;
use crate::os::regular_file;
use crate::segment::Address;
use crate::segment::internals::{Permissions, RemoveOutcome, remove_if_abandoned};

pub use crate::printable::{is_printable, printable};
pub use crate::segment::{Field, Type, Types, Variant};
pub use clear_poison::{ClearPoisonError, clear_poison};
pub use types::{
    Access, Attachment, CondvarState, Content, Details, Epoch, EventState, FileKind, Holder,
    HolderState, Link, LockState, Locks, MutexState, Object, Scope, SeatState, Segment, State,
    SyncObject, SyncState, Users, Waiters,
};
pub use values::{FieldValue, Value, Values};

/// Returns the size of a page in bytes.
#[must_use]
pub fn page_size() -> u64 {
    mem::page_size() as u64
}

/// Returns the effective user id of this process, for a comparison with
/// [`Object::owner`].
#[must_use]
pub fn effective_user() -> u32 {
    regular_file::effective_user()
}

/// Returns the name of a user, if `/etc/passwd` contains it.
///
/// ```
/// use shm_sync::inspect::{self, Scope};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// for object in inspect::objects(Scope::Segments)? {
///     let owner = inspect::user_name(object.owner);
///     let owner = owner.unwrap_or(object.owner.to_string());
///     println!("{} of {owner}", inspect::printable(&object.name));
/// }
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn user_name(id: u32) -> Option<String> {
    task::user_name(id)
}

/// Returns the name of a process, as the kernel shows it, or `None` if there is no such
/// process. The name can contain any character: see [`printable`].
///
/// ```
/// use shm_sync::inspect;
///
/// assert!(inspect::command_of(std::process::id()).is_some());
/// assert_eq!(inspect::command_of(0), None);
/// ```
#[must_use]
pub fn command_of(pid: u32) -> Option<String> {
    Some(task::task(pid).ok()??.command)
}

/// Returns all objects, sorted by backing and name.
///
/// Unreadable objects are included, and objects that are removed during the call are
/// omitted. The [module](self) has an example.
///
/// # Errors
///
/// [`Error::Os`] if `/proc` can't be read.
pub fn objects(scope: Scope) -> Result<Vec<Object>, Error> {
    find::objects(scope)
}

/// Returns the object with this address, of any kind.
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
/// assert_eq!(object.state(), State::Attached);
/// assert_eq!(object.users.pids, [std::process::id()]);
/// # drop(segment);
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// * [`Error::NotFound`]: there is no such object.
/// * [`Error::PermissionDenied`]: this process may not search for it.
/// * [`Error::Os`].
pub fn object(address: &Address) -> Result<Object, Error> {
    let found = find::find(address).map_err(|error| error.at(address))?;
    Ok(found.0)
}

/// Returns the object with this address, and up to `limit` of its sync objects.
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
/// Those of [`object`].
pub fn details(address: &Address, limit: usize) -> Result<Details, Error> {
    let (object, opened) = find::find(address).map_err(|error| error.at(address))?;
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

/// Returns the sync object with this [path](SyncObject::path), if the segment has one.
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
/// Those of [`object`], and:
///
/// * [`Error::NotASegment`]: the object is no segment, or was created on a platform
///   with other locks.
/// * [`Error::UnsupportedFormat`], [`Error::Corrupt`]: the segment can't be read.
pub fn sync_object(address: &Address, path: &str) -> Result<Option<SyncObject>, Error> {
    let found = find::find_readable(address).map_err(|error| error.at(address));
    let (segment, opened) = found?;
    Ok(locks::find(&opened, segment.epoch, path))
}

/// Returns the types in the value of a segment, or `None` if the segment does not
/// describe them because they are too many.
///
/// ```
/// use shm_sync::inspect;
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-types-{}", std::process::id());
/// # let name = name.as_str();
/// let segment = Segment::create(name, ShmMutex::new(0_u64))?;
/// let types = inspect::types(&name.parse()?)?.expect("it is one type in another");
/// let data = &types.root().fields[0];
/// assert_eq!((data.name.as_str(), data.offset), ("data", 64));
/// let of = types.type_of(data).expect("it is of this table");
/// assert_eq!((of.kind.as_str(), of.size), ("u64", 8));
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`object`], and:
///
/// * [`Error::NotASegment`]: the object is no segment.
/// * [`Error::UnsupportedFormat`], [`Error::Corrupt`]: the segment can't be read.
pub fn types(address: &Address) -> Result<Option<Types>, Error> {
    let found = find::find_segment(address).map_err(|error| error.at(address));
    let (_, opened) = found?;
    opened.types().map_err(|error| error.at(address))
}

/// Returns at most `limit` values of the fields of a segment of any type, or `None` if
/// the segment does not describe its types.
///
/// It reads without a lock while the processes go on. So a value may be torn, and two
/// values need not fit together. Long arrays and texts are shortened. The state of
/// locks and of the other sync objects is not a value: see [`details`].
///
/// ```
/// use shm_sync::inspect::{self, Value};
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-values-{}", std::process::id());
/// # let name = name.as_str();
/// let segment = Segment::create(name, ShmMutex::new((7_u64, true)))?;
/// let values = inspect::values(&name.parse()?, 100)?.expect("the types are few");
/// let shown = values.fields.iter().map(|field| format!("{} = {}", field.path, field.value));
/// assert_eq!(shown.collect::<Vec<_>>(), [".data.0 = 7", ".data.1 = true"]);
/// assert_eq!(values.fields[0].value, Value::Unsigned(7));
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`types`].
pub fn values(address: &Address, limit: usize) -> Result<Option<Values>, Error> {
    let found = find::find_segment(address).map_err(|error| error.at(address));
    let (_, opened) = found?;
    values::read(&opened, limit).map_err(|error| error.at(address))
}

/// Returns the shared mappings of a process, in the order of their addresses.
///
/// ```
/// use shm_sync::inspect::{self, Scope};
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-attachments-{}", std::process::id());
/// # let name = name.as_str();
/// let segment = Segment::create(name, ShmMutex::new(0_u64))?;
/// let attachments = inspect::attachments_of(std::process::id(), Scope::Segments)?;
/// assert!(attachments.iter().any(|attachment| attachment.object.name == name));
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// * [`Error::NotFound`]: there is no such process.
/// * [`Error::PermissionDenied`]: it belongs to another user.
/// * [`Error::Os`].
pub fn attachments_of(pid: u32, scope: Scope) -> Result<Vec<Attachment>, Error> {
    find::attachments_of(pid, scope)
}

/// Removes the segment with this address, if no process is attached: its name, and
/// thereby its memory. The segment may be damaged, or belong to another version of this
/// crate or to another pid namespace.
///
/// The call does not wait for the lock of a System V segment. If users other than this
/// one and root may write to the segment, or if it is damaged, only the kernel's count
/// of attachments decides. A process that attaches between the count and the removal
/// keeps its memory, but the key is free, as after [`unlink`](crate::unlink).
///
/// # Errors
///
/// * [`Error::InUse`]: a process is attached. Nothing was changed.
/// * [`Error::NotFound`]: there is no such object.
/// * [`Error::NotASegment`]: the object is no segment of this crate. It is not removed.
/// * [`Error::Blocked`]: another process holds a lock that this call needs.
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
/// assert!(matches!(refused, Err(Error::InUse { .. })));
///
/// drop(segment);
/// inspect::remove(&name.parse()?)?;
/// # Ok(())
/// # }
/// ```
pub fn remove(address: &Address) -> Result<(), Error> {
    remove_at(address).map_err(|error| error.at(address))
}

fn remove_at(address: &Address) -> Result<(), Error> {
    let (object, _) = find::find(address)?;
    // Other versions may not register their attachments, but their mappings are
    // visible.
    let is_unreadable = matches!(object.content, Content::Unreadable(_));
    if is_unreadable && !object.users.pids.is_empty() {
        return Err(Error::InUse { address: None });
    }
    let permissions = Permissions::without_owner_check();
    match remove_if_abandoned(&permissions, &address.target()?)? {
        RemoveOutcome::Removed => Ok(()),
        RemoveOutcome::InUse => Err(Error::InUse { address: None }),
        RemoveOutcome::Gone => Err(Error::NotFound { address: None }),
    }
}
