//! Every access to an object: its outcome, and what it leaves behind.

#![allow(unreachable_pub, reason = "part of a test program, not of a library")]

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::ptr::NonNull;

use shm_sync::inspect::{self, Content};
use shm_sync::{
    Address, Backing, CorruptHeader, Error, Segment, SegmentOptions, ShmMutex, ShmSafe, TearFree,
};

use crate::support::TestAddress;

pub type Counter = ShmMutex<u64>;

/// Longer objects are compared by their metadata only.
const LONGEST_COMPARED: u64 = 1 << 20;

/// An access to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Open,
    OpenOrCreate,
    OpenReadOnly,
    Snapshot,
    /// `inspect::object`, as the tool uses it. `Details` and `SyncObject` are
    /// `inspect::details` and `inspect::sync_object`.
    Object,
    Details,
    SyncObject,
    /// `inspect::objects`, which does not list files.
    List,
}

pub const ACCESSES: [Access; 8] = [
    Access::Open,
    Access::OpenOrCreate,
    Access::OpenReadOnly,
    Access::Snapshot,
    Access::Object,
    Access::Details,
    Access::SyncObject,
    Access::List,
];

/// The outcome of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The object was opened, or can be read.
    Opened,
    NotFound,
    PermissionDenied,
    WrongOwner,
    WrongCreator,
    WrongCreatorGroup,
    TooPermissive,
    NotASegment,
    OtherFormat,
    Corrupt(CorruptHeader),
    OtherLayout,
    OtherNamespace,
    NoSpace,
}

impl Outcome {
    fn of(error: &Error) -> Self {
        assert!(!error.to_string().is_empty());
        match error {
            Error::NotFound { .. } => Self::NotFound,
            Error::PermissionDenied { .. } => Self::PermissionDenied,
            Error::WrongOwner { .. } => Self::WrongOwner,
            Error::WrongCreator { .. } => Self::WrongCreator,
            Error::WrongCreatorGroup { .. } => Self::WrongCreatorGroup,
            Error::TooPermissive { .. } => Self::TooPermissive,
            Error::NotASegment { .. } => Self::NotASegment,
            Error::UnsupportedFormat { .. } => Self::OtherFormat,
            Error::Corrupt { reason: damage, .. } => Self::Corrupt(*damage),
            Error::LayoutMismatch { .. } => Self::OtherLayout,
            Error::ForeignPidNamespace { .. } => Self::OtherNamespace,
            Error::NoSpace { .. } => Self::NoSpace,
            other => panic!("no bad object may cause {other:?}"),
        }
    }
}

/// The expected outcomes for one object.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The outcome of accesses that write: `open`, `open_or_create`.
    pub writer: Outcome,
    /// The outcome of accesses that read the value: `open_read_only`, `open_snapshot`.
    pub reader: Outcome,
    /// The outcome of accesses without the type.
    pub tool: Outcome,
    /// The outcome of an access to one lock without the type.
    pub lock: Outcome,
}

impl Expected {
    pub fn all(outcome: Outcome) -> Self {
        Self {
            writer: outcome,
            reader: outcome,
            tool: outcome,
            lock: outcome,
        }
    }

    /// Expects `outcome` from accesses with the type. Accesses without the type
    /// succeed.
    pub fn for_users(outcome: Outcome) -> Self {
        Self {
            writer: outcome,
            reader: outcome,
            ..Self::all(Outcome::Opened)
        }
    }

    /// Expects `outcome` from accesses without the type. Accesses with the type
    /// succeed.
    pub fn for_tool(outcome: Outcome) -> Self {
        Self {
            tool: outcome,
            lock: outcome,
            ..Self::all(Outcome::Opened)
        }
    }

    /// Expects that the object does not exist. `open_or_create` would create it.
    pub fn missing() -> Self {
        Self {
            writer: Outcome::NotFound,
            ..Self::all(Outcome::NotFound)
        }
    }

    fn of(&self, access: Access) -> Outcome {
        match access {
            Access::Open | Access::OpenOrCreate => self.writer,
            Access::OpenReadOnly | Access::Snapshot => self.reader,
            Access::Object | Access::Details | Access::List => self.tool,
            Access::SyncObject => self.lock,
        }
    }
}

/// Tries every access, and checks what each leaves behind.
pub fn check<T: ShmSafe + TearFree + Default>(
    what: &str,
    address: &TestAddress,
    expected: &Expected,
) {
    for access in ACCESSES {
        if expected.of(access) == Outcome::NotFound && access == Access::OpenOrCreate {
            continue; // it would create the object
        }
        check_way::<T>(what, address, access, expected.of(access));
    }
}

/// Tries the accesses that treat the bytes differently. Each access of the tool reads
/// the maps of every process of the machine, so tests with hundreds of objects use few.
pub fn check_briefly<T: ShmSafe + TearFree + Default>(
    what: &str,
    address: &TestAddress,
    expected: &Expected,
) {
    for access in [
        Access::Open,
        Access::OpenReadOnly,
        Access::Snapshot,
        Access::Details,
    ] {
        check_way::<T>(what, address, access, expected.of(access));
    }
    if expected.lock != expected.tool {
        check_way::<T>(what, address, Access::SyncObject, expected.lock);
    }
}

/// Tries one access, and checks what it leaves behind.
fn check_way<T: ShmSafe + TearFree + Default>(
    what: &str,
    address: &TestAddress,
    access: Access,
    expected: Outcome,
) {
    let (resources_before, state_before) = (resources(), state_of(address));
    let outcome = attempt::<T>(access, address);
    if let Some(outcome) = outcome {
        assert_eq!(outcome, expected, "{what}, {access:?} {}", &**address);
    }
    assert_eq!(
        resources(),
        resources_before,
        "{what}, {access:?} {}",
        &**address
    );
    // A writer reinitialises the locks of a copy.
    let may_change =
        outcome == Some(Outcome::Opened) && matches!(access, Access::Open | Access::OpenOrCreate);
    if !may_change {
        let now = state_of(address);
        assert!(
            now == state_before,
            "{what}, {access:?} {} changed it",
            &**address
        );
    }
}

/// Tries one access. Returns `None` if it does not apply to this kind of object.
pub fn attempt<T: ShmSafe + TearFree + Default>(
    access: Access,
    address: &TestAddress,
) -> Option<Outcome> {
    let parsed = || address.parse::<Address>().unwrap();
    let result = match access {
        Access::Open => Segment::<T>::open(address).map(drop),
        Access::OpenOrCreate => Segment::<T>::open_or_create(address, T::default).map(drop),
        Access::OpenReadOnly => Segment::<T>::open_read_only(address).map(drop),
        Access::Snapshot => SegmentOptions::<T>::new().open_snapshot(address).map(drop),
        Access::Object => inspect::object(&parsed()).and_then(|object| readable(object.content)),
        Access::Details => {
            inspect::details(&parsed(), 100).and_then(|details| readable(details.object.content))
        }
        Access::SyncObject => inspect::sync_object(&parsed(), "[0]").map(drop),
        Access::List => {
            let found = inspect::objects(inspect::Scope::Everything)
                .unwrap()
                .into_iter()
                .find(|object| object.name == **address);
            match found {
                _ if address.kind() == Backing::File => return None,
                Some(object) => readable(object.content),
                None => Err(Error::NotFound { address: None }),
            }
        }
    };
    Some(match result {
        Ok(()) => Outcome::Opened,
        Err(error) => Outcome::of(&error),
    })
}

fn readable(content: Content) -> Result<(), Error> {
    match content {
        Content::Segment(_) => Ok(()),
        Content::Unreadable(error) | Content::Inaccessible(error) => Err(error),
        Content::Foreign(_) => Err(Error::NotASegment { address: None }),
        other => panic!("{other:?}"),
    }
}

/// Returns the shared mappings and the open descriptors of this process.
pub fn resources() -> (Vec<String>, Vec<String>) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let is_shared = |line: &&str| {
        line.split_whitespace()
            .nth(1)
            .is_some_and(|p| p.ends_with('s'))
    };
    let is_copy = |line: &&str| line.contains("/shm-sync-") && !line.contains("/deps/");
    let mapped = maps.lines().filter(|line| is_shared(line) || is_copy(line));
    let mapped = mapped.map(str::to_owned).collect();
    // The listing itself opens a descriptor, which is closed before its link is read.
    let links = fs::read_dir("/proc/self/fd").unwrap();
    let links: Vec<_> = links.map(|link| link.unwrap().path()).collect();
    let open = links.iter().filter_map(|link| {
        let leads_to = fs::read_link(link).ok()?;
        Some(format!("{}: {}", link.display(), leads_to.display()))
    });
    (mapped, open.collect())
}

/// Returns the metadata and the bytes of an object, without using this crate.
fn state_of(address: &TestAddress) -> (String, Vec<u8>) {
    let mut text = String::new();
    if address.kind() == Backing::SystemV {
        let Some(id) = address.system_v_id() else {
            return (text, Vec::new());
        };
        let memory = Attached::to(id);
        write!(text, "id {id}, mode {:o}", memory.mode).unwrap();
        return (text, memory.bytes());
    }
    let path = path(address);
    let Ok(facts) = fs::symlink_metadata(&path) else {
        return (text, Vec::new());
    };
    let (mode, blocks, len) = (facts.mode(), facts.blocks(), facts.len());
    let (inode, changed) = (facts.ino(), (facts.mtime(), facts.mtime_nsec()));
    write!(text, "{inode} {mode:o} {len} {blocks}").unwrap();
    // The times of a directory or a device are not those of its content.
    if facts.is_file() {
        write!(text, " {changed:?}").unwrap();
    }
    let is_short = facts.is_file() && len <= LONGEST_COMPARED;
    let bytes = is_short.then(|| fs::read(path).unwrap_or_default());
    (text, bytes.unwrap_or_default())
}

// --- Creating and changing objects ----------------------------------------------

/// Returns the path of a POSIX object or a file.
pub fn path(address: &TestAddress) -> String {
    match address.kind() {
        Backing::Posix => format!("/dev/shm{}", &**address),
        _ => address.to_string(),
    }
}

pub fn put_good<T: ShmSafe + TearFree + Default>(address: &TestAddress) {
    drop(Segment::create(address, T::default()).unwrap());
}

/// Creates an object with these bytes, as a program without this crate would.
pub fn put(address: &TestAddress, bytes: &[u8]) {
    if address.kind() == Backing::SystemV {
        put_system_v(address, bytes.len()).write(0, bytes);
        return;
    }
    let path = path(address);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Creates a zeroed System V segment.
pub fn put_system_v(address: &TestAddress, len: usize) -> Attached {
    let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
    // SAFETY: the call takes and returns numbers.
    let id = unsafe { libc::shmget(address.system_v_key(), len, flags) };
    assert!(id >= 0, "{}", std::io::Error::last_os_error());
    Attached::to(id)
}

/// Returns the bytes of an object.
pub fn bytes_of(address: &TestAddress) -> Vec<u8> {
    match address.kind() {
        Backing::SystemV => Attached::to(address.system_v_id().unwrap()).bytes(),
        _ => fs::read(path(address)).unwrap(),
    }
}

/// Overwrites some bytes of an object.
pub fn patch(address: &TestAddress, at: usize, bytes: &[u8]) {
    if address.kind() == Backing::SystemV {
        Attached::to(address.system_v_id().unwrap()).write(at, bytes);
        return;
    }
    let file = fs::File::options().write(true).open(path(address)).unwrap();
    file.write_all_at(bytes, at as u64).unwrap();
}

/// A System V segment, attached.
#[derive(Debug)]
pub struct Attached {
    base: NonNull<u8>,
    len: usize,
    pub mode: u32,
    pub owner: u32,
}

impl Attached {
    pub fn to(id: i32) -> Self {
        let status = system_v_status(id);
        // SAFETY: the null pointer lets the kernel choose the address.
        let base = unsafe { libc::shmat(id, std::ptr::null(), 0) };
        assert_ne!(
            base.addr(),
            usize::MAX,
            "{}",
            std::io::Error::last_os_error()
        );
        Self {
            base: NonNull::new(base.cast()).unwrap(),
            len: status.shm_segsz,
            mode: u32::from(status.shm_perm.mode),
            owner: status.shm_perm.uid,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        // SAFETY: the segment is mapped with this length as long as `self` lives, and
        // no process writes meanwhile.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }.to_vec()
    }

    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.len);
        // SAFETY: `at` is inside the segment, as asserted.
        let to = unsafe { self.base.add(at) };
        // SAFETY: the target is as long as `bytes`, as asserted, and no other process
        // uses it.
        unsafe {
            to.as_ptr()
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        };
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: `to` attached the segment, and it is not used afterwards.
        unsafe { libc::shmdt(self.base.as_ptr().cast()) };
    }
}

pub fn system_v_status(id: i32) -> libc::shmid_ds {
    // SAFETY: the struct consists of numbers, for which zero is valid.
    let mut status: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes to the struct, which outlives the call.
    let rc = unsafe { libc::shmctl(id, libc::IPC_STAT, &raw mut status) };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
    status
}

/// Changes the owner or the permissions of a System V segment.
pub fn change_system_v(address: &TestAddress, change: impl FnOnce(&mut libc::ipc_perm)) {
    let id = address.system_v_id().unwrap();
    let mut status = system_v_status(id);
    change(&mut status.shm_perm);
    // SAFETY: the kernel reads the struct, which outlives the call.
    let rc = unsafe { libc::shmctl(id, libc::IPC_SET, &raw mut status) };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
}
