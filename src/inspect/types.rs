//! The results: objects, their contents and their users.

use std::time::SystemTime;

use crate::error::{Error, Layout};
use crate::segment::{Address, Backing, Removal};
use crate::sync::snapshot;

pub use crate::os::mem::Access;
pub use crate::sync::snapshot::{CondvarState, EventState, Waiters};

/// Which objects to list.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Scope {
    /// The segments of this crate, of every backing and in every state. Objects that
    /// this user may not read are included, because they may be segments.
    ///
    /// Files and segments without a name are found through the processes that map them.
    /// A file that no process maps is not found.
    Segments,
    /// Also all other objects in `/dev/shm` and all other System V segments.
    Everything,
}

/// An object that contains shared memory, or that could.
#[non_exhaustive]
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Object {
    /// The name to display: the [address](Self::address), if there is one. It can
    /// contain any character, because the creator chose it: see
    /// [`printable`](super::printable).
    pub name: String,
    /// The address by which the object can be found again.
    pub address: Option<Address>,
    /// The kind of memory.
    pub backing: Backing,
    /// The state of the object's name.
    pub link: Link,
    /// The length in bytes.
    pub len: u64,
    /// How many pages of the object are in memory, if known. A page has
    /// [`page_size`](super::page_size) bytes.
    pub resident_pages: Option<u64>,
    /// The user id of the owner.
    pub owner: u32,
    /// The group id.
    pub group: u32,
    /// The permission bits.
    pub mode: u32,
    /// The processes that use it.
    pub users: Users,
    /// Its content.
    pub content: Content,
}

impl Object {
    /// Returns whether any process uses the object.
    #[must_use]
    pub fn state(&self) -> State {
        let Users {
            pids,
            attachments,
            unreadable_pids,
        } = &self.users;
        match attachments {
            _ if !pids.is_empty() => State::Attached,
            Some(0) => State::Abandoned,
            Some(_) => State::Attached,
            None if unreadable_pids.is_empty() => State::Abandoned,
            None => State::Unknown,
        }
    }
}

/// The state of an object's name.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Link {
    /// It can be opened by its name.
    Named,
    /// Its name was removed. The object exists until its last user detaches.
    Unlinked,
    /// It never had a name.
    Nameless,
}

/// Tells whether any process uses an object.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum State {
    /// At least one process is attached.
    Attached,
    /// No process is attached.
    Abandoned,
    /// Processes of other users may be attached, and this process may not inspect them.
    Unknown,
}

/// The processes that use an object.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Users {
    /// The processes that are known to have mapped it, in ascending order.
    pub pids: Vec<u32>,
    /// The number of attachments, if the kernel counts them. For System V, the kernel
    /// counts all attachments. For a named segment, it knows one lock per attached
    /// process.
    ///
    /// The number includes processes in other containers. If a program holds thousands
    /// of locks on the object, the true number may be higher.
    pub attachments: Option<u64>,
    /// The processes whose mappings this process may not read, in ascending order. If
    /// `/proc` hides processes (`hidepid`), process 1 represents them.
    ///
    /// They are the same for every object. One of them may have mapped this object if
    /// `attachments` exceeds the number of `pids`, or is `None`.
    pub unreadable_pids: Vec<u32>,
}

/// The content of an object.
#[non_exhaustive]
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Content {
    /// A segment of this crate.
    Segment(Box<Segment>),
    /// A segment that its creator has not finished: a System V segment, or a file with
    /// a temporary name, on a file system without unnamed files. The creator may have
    /// died.
    Unfinished,
    /// A segment that this version cannot read: it has another format
    /// ([`Error::UnsupportedFormat`]), or is damaged or truncated ([`Error::Corrupt`]).
    Unreadable(#[cfg_attr(feature = "serde", serde(serialize_with = "message"))] Error),
    /// An object that this user may not open ([`Error::PermissionDenied`]), or that
    /// cannot be opened.
    Inaccessible(#[cfg_attr(feature = "serde", serde(serialize_with = "message"))] Error),
    /// No segment of this crate.
    Foreign(FileKind),
}

impl Content {
    /// Returns the segment, if the content is a readable one.
    #[must_use]
    pub fn segment(&self) -> Option<&Segment> {
        match self {
            Self::Segment(segment) => Some(segment),
            _ => None,
        }
    }
}

/// The kind of an object that is no segment.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum FileKind {
    /// A regular file, or a System V segment.
    Memory,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A FIFO, a socket, or a device.
    Special,
}

/// The header of a segment.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Segment {
    /// The type and its layout.
    pub layout: Layout,
    /// The offset of the value in the object, in bytes.
    pub value_offset: u64,
    /// The number of elements, if it was chosen at creation, or 0.
    pub elements: u64,
    /// The rule for the name after the last detachment.
    pub removal: Removal,
    /// The id of the process that created it. The process may have ended.
    pub creator: u32,
    /// The time of creation. `None` if it exceeds the range of [`SystemTime`].
    pub created: Option<SystemTime>,
    /// The pid namespace of the processes that use its locks, as an inode number.
    pub pid_namespace: u32,
    /// The validity of its locks for this process.
    pub epoch: Epoch,
    /// The number of its locks by state. `None` if it was created on a platform with
    /// other locks.
    pub locks: Option<Locks>,
}

/// The validity of the locks of a segment in this boot, file and pid namespace.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Epoch {
    /// They were initialised in this boot of the machine, in this file, and in the pid
    /// namespace of this process.
    Current,
    /// They belong to another pid namespace, where thread ids have another meaning. The
    /// next opener reinitialises the locks if no process with write access is attached
    /// (System V: no process at all).
    OtherNamespace,
    /// Unknown, because this process cannot read the boot id or its own pid namespace.
    Unknown,
    /// They were initialised in another boot of the machine, or in the file of which
    /// this one is a copy. No holder exists any more. The next opener reinitialises the
    /// locks.
    Past,
}

/// The number of sync objects in a segment.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Locks {
    /// The number of mutexes, condition variables, seats and events.
    pub objects: u64,
    /// How many of them were inspected: all, up to a limit of one million.
    pub counted: u64,
    /// The number of inspected mutexes that a thread holds.
    pub held: u64,
    /// The number of inspected seats that a thread occupies: see
    /// [`SyncState::Seat`].
    pub occupied: u64,
    /// How many of the held mutexes and occupied seats have a holder that a signal or a
    /// debugger has stopped.
    pub stopped: u64,
    /// The number of inspected mutexes and seats that name a holder which does not
    /// exist, and which the kernel has not marked. The holder may have called `exec`
    /// outside the main thread, or have run in another boot of the machine.
    pub dead: u64,
    /// The number of inspected mutexes that are poisoned, also by an owner death that
    /// no locker has seen yet.
    pub poisoned: u64,
    /// The number of inspected seats whose occupant has died, and which no thread has
    /// taken since.
    pub orphaned: u64,
}

/// An object and its sync objects.
#[non_exhaustive]
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Details {
    /// The object.
    pub object: Object,
    /// Its sync objects in the order of the type, up to the limit. Unlocked and clean
    /// ones are omitted first, and poisoned ones last.
    pub sync_objects: Vec<SyncObject>,
    /// The number of sync objects that were omitted.
    pub omitted: u64,
}

/// A mutex, condition variable, seat or event in a segment. A seat is a part of
/// most other primitives, such as a [`ShmSemaphore`](crate::ShmSemaphore).
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SyncObject {
    /// The path of the field in the value: `.workers[3].lock`. It is empty if the value
    /// itself is the sync object.
    pub path: String,
    /// The offset in the value, in bytes.
    pub offset: u64,
    /// Its state.
    pub state: SyncState,
}

/// The state of a mutex, condition variable, seat or event.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum SyncState {
    /// A [`ShmMutex`](crate::ShmMutex).
    Mutex(MutexState),
    /// A [`ShmCondvar`](crate::ShmCondvar).
    Condvar(CondvarState),
    /// A [`PthreadCondvar`](crate::PthreadCondvar). Only libc knows its state.
    PthreadCondvar,
    /// A seat: a permit of a [`ShmSemaphore`](crate::ShmSemaphore), a
    /// [`ShmLifeline`](crate::ShmLifeline), a member of a
    /// [`ShmBarrier`](crate::ShmBarrier), an endpoint of a
    /// [`ShmChannel`](crate::ShmChannel), or a part of another primitive.
    Seat(SeatState),
    /// A [`ShmEvent`](crate::ShmEvent).
    Event(EventState),
    /// The bytes could not be read, for example because the segment became shorter.
    Unreadable,
}

/// The state of a mutex.
pub type MutexState = snapshot::MutexState<Holder>;

/// The state of a seat.
pub type SeatState = snapshot::SeatState<Holder>;

/// Tells whether a thread holds a mutex or a seat.
pub type LockState = snapshot::LockState<Holder>;

/// The thread that holds a mutex or occupies a seat.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Holder {
    /// The id of the process, or 0 if it is unknown.
    pub pid: u32,
    /// The id of the thread.
    pub tid: u32,
    /// The state of the thread.
    pub state: HolderState,
    /// The name of the thread, as the kernel shows it. It can contain any character:
    /// see [`printable`](super::printable).
    pub command: Option<String>,
    /// When the thread started. The thread locked the mutex later, but that time is not
    /// recorded.
    pub thread_started: Option<SystemTime>,
}

/// The state of the thread that holds a mutex or occupies a seat.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum HolderState {
    /// It exists.
    Alive,
    /// It exists, but a signal or a debugger has stopped it.
    Stopped,
    /// It does not exist, so it will not unlock the mutex.
    Dead,
    /// Unknown, because its id belongs to another pid namespace, or because `/proc`
    /// does not tell.
    Unknown,
}

/// A shared mapping of a process.
#[non_exhaustive]
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Attachment {
    /// The addresses in that process.
    pub addresses: std::ops::Range<u64>,
    /// The access that the mapping permits.
    pub access: Access,
    /// The offset in the object at which the mapping begins, in bytes.
    pub offset: u64,
    /// The mapped object.
    pub object: Object,
}

/// Serialises an error as its message and those of its sources.
#[cfg(feature = "serde")]
fn message<S: serde::Serializer>(error: &Error, serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    serializer.serialize_str(&text)
}

#[cfg(test)]
mod tests {
    use std::marker::PhantomData;
    use std::mem::MaybeUninit;
    use std::num::NonZero;
    use std::sync::atomic::*;

    use crate::documented;
    use crate::shm_safe::{CachePadded, Parts, SegmentContent, WithTail};
    use crate::sync::*;
    use crate::{ShmOption, ShmString, ShmVec};

    type Kinds = Vec<(&'static str, Option<Vec<&'static str>>)>;

    /// Adds the kind of a type, and those of its fields.
    fn add(of: Parts, rows: &mut Kinds) {
        let names = of.fields.iter().map(|(name, ..)| *name).collect();
        let has_any_names = ["struct", "tuple", "enum"].contains(&of.kind);
        rows.push((of.kind, (!has_any_names).then_some(names)));
        for (.., of) in of.fields {
            add(of.parts(), rows);
        }
    }

    #[test]
    fn kinds_of_types_are_documented() {
        macro_rules! rows {
            ($($type:ty),+ $(,)?) => {{
                let mut rows = Kinds::new();
                $(add(<$type as SegmentContent>::PARTS, &mut rows);)+
                rows
            }};
        }
        let mut rows = rows!(
            WithTail<u8, [u8]>,
            (u8, u16, u32, u64, u128, usize),
            (i8, i16, i32, i64, i128, isize),
            (f32, f64, bool, char, ()),
            (AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize),
            (AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize),
            (PhantomData<u8>, NonZero<u8>, MaybeUninit<u8>),
            (ShmMutex<u8>, ShmRwLock<u8, 1>, ShmOnceLock<u8>, CachePadded<u8>),
            (Published<u8>, ShmString<1>, ShmVec<u8, 1>, ShmOption<u8>),
            (ShmPipe<1>, ShmCondvar, PthreadCondvar, ShmEvent, ShmSemaphore<1>),
            (ShmLifeline, Lifelines<1>, ShmBarrier<1>),
        );
        // The derive macro writes these, and a feature has the last one.
        rows.extend([
            ("struct", None),
            ("enum", None),
            ("Plain", Some(Vec::new())),
        ]);
        documented::kinds(&rows);
    }
}
