//! Every way to get at an object, what each says, and what it leaves behind.

#![allow(unreachable_pub, reason = "part of a test program, not of a library")]

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::ptr::NonNull;

use shm_sync::inspect::{self, Content};
use shm_sync::{
    Address, Backing, CorruptHeader, Error, Segment, SegmentOptions, ShmMutex, ShmSafe,
};

use crate::support::TestAddress;

pub type Counter = ShmMutex<u64>;

/// Longer objects are compared by what the system says of them, not byte by byte.
const LONGEST_COMPARED: u64 = 1 << 20;

/// A way to get at an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Open,
    OpenOrCreate,
    OpenReadOnly,
    Snapshot,
    /// `inspect::object`, `details` and `sync_object` are what the tool reads with.
    Object,
    Details,
    SyncObject,
    /// `inspect::objects`, which finds no files.
    List,
}

pub const WAYS: [Way; 8] = [
    Way::Open,
    Way::OpenOrCreate,
    Way::OpenReadOnly,
    Way::Snapshot,
    Way::Object,
    Way::Details,
    Way::SyncObject,
    Way::List,
];

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was opened, or can be read.
    Good,
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

impl Verdict {
    fn of(error: &Error) -> Self {
        assert!(!error.to_string().is_empty());
        match error {
            Error::NotFound => Self::NotFound,
            Error::PermissionDenied => Self::PermissionDenied,
            Error::WrongOwner { .. } => Self::WrongOwner,
            Error::WrongCreator { .. } => Self::WrongCreator,
            Error::WrongCreatorGroup { .. } => Self::WrongCreatorGroup,
            Error::TooPermissive { .. } => Self::TooPermissive,
            Error::NotASegment => Self::NotASegment,
            Error::UnsupportedFormat { .. } => Self::OtherFormat,
            Error::Corrupt(damage) => Self::Corrupt(*damage),
            Error::LayoutMismatch { .. } => Self::OtherLayout,
            Error::ForeignPidNamespace => Self::OtherNamespace,
            Error::NoSpace { .. } => Self::NoSpace,
            other => panic!("no bad object should end in {other:?}"),
        }
    }
}

/// What the ways should say of an object.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Who wants to write: `open`, `open_or_create`.
    pub writer: Verdict,
    /// Who wants to read the value: `open_read_only`, `open_snapshot`.
    pub reader: Verdict,
    /// Who reads without knowing the type.
    pub tool: Verdict,
    /// Who wants to know about one lock, without knowing the type.
    pub lock: Verdict,
}

impl Expected {
    pub fn all(verdict: Verdict) -> Self {
        Self {
            writer: verdict,
            reader: verdict,
            tool: verdict,
            lock: verdict,
        }
    }

    /// It can be read by who does not know the type, but not opened.
    pub fn for_users(verdict: Verdict) -> Self {
        Self {
            writer: verdict,
            reader: verdict,
            ..Self::all(Verdict::Good)
        }
    }

    /// It can be used, but its locks can't be listed.
    pub fn for_tool(verdict: Verdict) -> Self {
        Self {
            tool: verdict,
            lock: verdict,
            ..Self::all(Verdict::Good)
        }
    }

    /// There is nothing yet: who may create does.
    pub fn missing() -> Self {
        Self {
            writer: Verdict::NotFound,
            ..Self::all(Verdict::NotFound)
        }
    }

    fn of(&self, way: Way) -> Verdict {
        match way {
            Way::Open | Way::OpenOrCreate => self.writer,
            Way::OpenReadOnly | Way::Snapshot => self.reader,
            Way::Object | Way::Details | Way::List => self.tool,
            Way::SyncObject => self.lock,
        }
    }
}

/// Tries every way, and looks what each leaves behind.
pub fn check<T: ShmSafe + Default>(what: &str, address: &TestAddress, expected: &Expected) {
    for way in WAYS {
        if expected.of(way) == Verdict::NotFound && way == Way::OpenOrCreate {
            continue; // it would put something there
        }
        check_way::<T>(what, address, way, expected.of(way));
    }
}

/// Tries those ways that differ in what they do with the bytes. Each look of the tool
/// asks every process of the machine what it maps, so who has hundreds of objects takes
/// as few looks as will do.
pub fn check_briefly<T: ShmSafe + Default>(what: &str, address: &TestAddress, expected: &Expected) {
    for way in [Way::Open, Way::OpenReadOnly, Way::Snapshot, Way::Details] {
        check_way::<T>(what, address, way, expected.of(way));
    }
    if expected.lock != expected.tool {
        check_way::<T>(what, address, Way::SyncObject, expected.lock);
    }
}

/// Tries one way, and looks what it leaves behind.
fn check_way<T: ShmSafe + Default>(what: &str, address: &TestAddress, way: Way, expected: Verdict) {
    let (held, looks) = (holdings(), appearance(address));
    let verdict = attempt::<T>(way, address);
    if let Some(verdict) = verdict {
        assert_eq!(verdict, expected, "{what}, {way:?} {}", &**address);
    }
    assert_eq!(holdings(), held, "{what}, {way:?} {}", &**address);
    // Who may write brings the locks of a copy back to life.
    let may_change = verdict == Some(Verdict::Good) && matches!(way, Way::Open | Way::OpenOrCreate);
    if !may_change {
        let now = appearance(address);
        assert!(now == looks, "{what}, {way:?} {} changed it", &**address);
    }
}

/// `None` if the way does not lead there.
pub fn attempt<T: ShmSafe + Default>(way: Way, address: &TestAddress) -> Option<Verdict> {
    let parsed = || address.parse::<Address>().unwrap();
    let result = match way {
        Way::Open => Segment::<T>::open(address).map(drop),
        Way::OpenOrCreate => Segment::<T>::open_or_create(address, T::default).map(drop),
        Way::OpenReadOnly => Segment::<T>::open_read_only(address).map(drop),
        Way::Snapshot => SegmentOptions::new().open_snapshot::<T>(address).map(drop),
        Way::Object => inspect::object(&parsed()).and_then(|object| readable(object.content)),
        Way::Details => {
            inspect::details(&parsed(), 100).and_then(|details| readable(details.object.content))
        }
        Way::SyncObject => inspect::sync_object(&parsed(), "[0]").map(drop),
        Way::List => {
            let found = inspect::objects(inspect::Scope::Everything)
                .unwrap()
                .into_iter()
                .find(|object| object.name == **address);
            match found {
                _ if address.kind() == Backing::File => return None,
                Some(object) => readable(object.content),
                None => Err(Error::NotFound),
            }
        }
    };
    Some(match result {
        Ok(()) => Verdict::Good,
        Err(error) => Verdict::of(&error),
    })
}

fn readable(content: Content) -> Result<(), Error> {
    match content {
        Content::Segment(_) => Ok(()),
        Content::Unreadable(error) | Content::Inaccessible(error) => Err(error),
        Content::Foreign(_) => Err(Error::NotASegment),
        other => panic!("{other:?}"),
    }
}

/// What of shared memory this process has mapped, and what it has open.
pub fn holdings() -> (Vec<String>, Vec<String>) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let is_shared = |line: &&str| {
        line.split_whitespace()
            .nth(1)
            .is_some_and(|p| p.ends_with('s'))
    };
    let is_copy = |line: &&str| line.contains("/shm-sync-") && !line.contains("/deps/");
    let mapped = maps.lines().filter(|line| is_shared(line) || is_copy(line));
    let mapped = mapped.map(str::to_owned).collect();
    // Listing them takes one, which is closed before it is looked at.
    let links = fs::read_dir("/proc/self/fd").unwrap();
    let links: Vec<_> = links.map(|link| link.unwrap().path()).collect();
    let open = links.iter().filter_map(|link| {
        let leads_to = fs::read_link(link).ok()?;
        Some(format!("{}: {}", link.display(), leads_to.display()))
    });
    (mapped, open.collect())
}

/// All that can be seen of an object without opening it in one of the ways.
fn appearance(address: &TestAddress) -> (String, Vec<u8>) {
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
    // A directory's time, or a device's, is not its content's.
    if facts.is_file() {
        write!(text, " {changed:?}").unwrap();
    }
    let is_short = facts.is_file() && len <= LONGEST_COMPARED;
    let bytes = is_short.then(|| fs::read(path).unwrap_or_default());
    (text, bytes.unwrap_or_default())
}

// --- Putting objects there ------------------------------------------------------

/// Where a POSIX object or a file is.
pub fn path(address: &TestAddress) -> String {
    match address.kind() {
        Backing::Posix => format!("/dev/shm{}", &**address),
        _ => address.to_string(),
    }
}

pub fn put_good<T: ShmSafe + Default>(address: &TestAddress) {
    drop(Segment::create(address, T::default()).unwrap());
}

/// Puts those bytes there, as a program without this crate would.
pub fn put(address: &TestAddress, bytes: &[u8]) {
    if address.kind() == Backing::SystemV {
        put_system_v(address, bytes.len()).write(0, bytes);
        return;
    }
    let path = path(address);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Puts zeros under the key.
pub fn put_system_v(address: &TestAddress, len: usize) -> Attached {
    let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o600;
    // SAFETY: takes and returns numbers.
    let id = unsafe { libc::shmget(address.system_v_key(), len, flags) };
    assert!(id >= 0, "{}", std::io::Error::last_os_error());
    Attached::to(id)
}

/// The bytes of what is there.
pub fn bytes_of(address: &TestAddress) -> Vec<u8> {
    match address.kind() {
        Backing::SystemV => Attached::to(address.system_v_id().unwrap()).bytes(),
        _ => fs::read(path(address)).unwrap(),
    }
}

/// Overwrites some bytes of what is there.
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
        // SAFETY: no address is asked for.
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
        // SAFETY: mapped for as long as this lives, and nobody writes meanwhile.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }.to_vec()
    }

    pub fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.len);
        // SAFETY: inside the segment, as asserted.
        let to = unsafe { self.base.add(at) };
        // SAFETY: as long as the bytes, as asserted, and nobody else uses it.
        unsafe {
            to.as_ptr()
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        };
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // SAFETY: attached by `to`, and used no more.
        unsafe { libc::shmdt(self.base.as_ptr().cast()) };
    }
}

pub fn system_v_status(id: i32) -> libc::shmid_ds {
    // SAFETY: a struct of numbers, for which zero is a value.
    let mut status: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills the struct.
    let rc = unsafe { libc::shmctl(id, libc::IPC_STAT, &raw mut status) };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
    status
}

/// Changes who may do what with a System V segment.
pub fn change_system_v(address: &TestAddress, change: impl FnOnce(&mut libc::ipc_perm)) {
    let id = address.system_v_id().unwrap();
    let mut status = system_v_status(id);
    change(&mut status.shm_perm);
    // SAFETY: the kernel reads the struct.
    let rc = unsafe { libc::shmctl(id, libc::IPC_SET, &raw mut status) };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
}
