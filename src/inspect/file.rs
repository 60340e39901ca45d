//! Files: kind, name, users, and content.

use std::ffi::OsStr;
use std::fs::{File, FileType, Metadata};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::locks;
use super::reader::{Found, Opened, Source, os_error};
use super::types::{Content, Epoch, FileKind, Link, Object, Segment, Users};
use crate::error::Error;
use crate::os::mem;
use crate::os::proc::fd;
use crate::os::proc::maps::{DELETED, MapsSnapshot};
use crate::os::regular_file;
use crate::robust;
use crate::segment::internals::{
    Epoch as SegmentEpoch, Header, MEMFD_LABEL, attached_pids, is_temporary,
};
use crate::segment::{Address, Backing};

/// The kernel shows the label of a memfd after this prefix.
pub(super) const MEMFD: &str = "/memfd:";

/// Resident pages of longer files are not counted, because this takes long.
const MAX_COUNTED_LEN: u64 = 64 << 30;

/// Returns the device and inode number of the file with this path, which may be a link.
pub(super) fn identity_of(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Reads the object with this path.
pub(super) fn at_path(path: &Path, snapshot: &MapsSnapshot) -> Result<Found, Error> {
    if fd::is_link(path) {
        let shown = std::fs::read_link(path).map_err(os_error("readlink"))?;
        return behind_link(path, &shown, snapshot);
    }
    let metadata = std::fs::symlink_metadata(path).map_err(os_error("lstat"))?;
    let address = Address::of_file_at(path).ok();
    let name = address
        .as_ref()
        .map_or_else(|| path.to_string_lossy().into_owned(), Address::to_string);
    // The address of a POSIX object with a very long name is its path.
    let backing = backing_of(path);
    let file = Candidate {
        name,
        address,
        backing,
        link: Link::Named,
        metadata,
        is_temporary: is_temporary(path),
    };
    let opened = if file.metadata.is_file() {
        regular_file::open(path, mem::Access::ReadOnly)
    } else {
        Ok(None)
    };
    finish(file, opened, snapshot)
}

/// Reads the object behind a link such as `/proc/PID/fd/N`. `shown` is the path that
/// the kernel shows as the target of the link.
pub(super) fn behind_link(
    link: &Path,
    shown: &Path,
    snapshot: &MapsSnapshot,
) -> Result<Found, Error> {
    let mut file = Candidate {
        name: shown.to_string_lossy().into_owned(),
        address: Address::file(link).ok(),
        backing: Backing::File,
        link: Link::Named,
        metadata: std::fs::metadata(link).map_err(os_error("stat"))?,
        is_temporary: false,
    };
    file.apply_kernel_name(shown);
    finish(file, fd::open_link(link, mem::Access::ReadOnly), snapshot)
}

/// Reads the file, unless it was removed before it could be opened.
fn finish(
    file: Candidate,
    opened: io::Result<Option<OwnedFd>>,
    snapshot: &MapsSnapshot,
) -> Result<Found, Error> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::NotFound { address: None })
        }
        opened => Ok(file.inspect(opened, snapshot)),
    }
}

fn backing_of(path: &Path) -> Backing {
    if regular_file::is_posix_object(path) {
        Backing::Posix
    } else {
        Backing::File
    }
}

/// A file that may contain a segment, before it is read.
struct Candidate {
    name: String,
    address: Option<Address>,
    backing: Backing,
    link: Link,
    metadata: Metadata,
    /// Whether the file has the temporary name of a segment that is being created.
    is_temporary: bool,
}

impl Candidate {
    /// Sets name, address, backing and link from the path that the kernel shows.
    fn apply_kernel_name(&mut self, shown: &Path) {
        let shown = shown.as_os_str().as_bytes();
        let shown = shown.strip_suffix(DELETED.as_bytes()).unwrap_or(shown);
        let text = String::from_utf8_lossy(shown);
        if let Some(label) = text.strip_prefix(MEMFD) {
            self.name = format!("memfd:{}", label.strip_prefix(MEMFD_LABEL).unwrap_or(label));
            self.backing = Backing::Memfd;
            self.link = Link::Nameless;
            return;
        }
        let path = Path::new(OsStr::from_bytes(shown));
        let current = self.current_name(path);
        let address = Address::of_file_at(current.as_deref().unwrap_or(path));
        self.backing = backing_of(path);
        self.name = address
            .as_ref()
            .map_or_else(|_| text.into_owned(), Address::to_string);
        if let Some(current) = current {
            self.address = address.ok();
            self.is_temporary = is_temporary(&current);
        }
        if self.metadata.nlink() == 0 {
            self.link = Link::Unlinked;
        }
    }

    /// Returns the current path of the file, if it is in the directory of the path that
    /// the kernel shows.
    fn current_name(&self, shown: &Path) -> Option<PathBuf> {
        let identity = (self.metadata.dev(), self.metadata.ino());
        if self.metadata.nlink() == 0 {
            return None;
        }
        if identity_of(shown) == Some(identity) {
            return Some(shown.to_owned());
        }
        let mut entries = std::fs::read_dir(shown.parent()?).ok()?.flatten();
        let found = entries.find(|entry| {
            entry.ino() == self.metadata.ino() && identity_of(&entry.path()) == Some(identity)
        });
        found.map(|entry| entry.path())
    }

    /// Reads the file. `file` is `Ok(None)` if it is of a kind that is not opened.
    fn inspect(mut self, file: io::Result<Option<OwnedFd>>, snapshot: &MapsSnapshot) -> Found {
        let kind = kind_of(self.metadata.file_type());
        let mut resident_pages = None;
        let mut registered = None;
        let (content, opened) = match file {
            Err(source) => (Content::Inaccessible(os_error("open")(source)), None),
            Ok(None) => (Content::Foreign(kind), None),
            Ok(Some(file)) => {
                let file = File::from(file);
                // Another file may have had the name before this one was opened.
                if let Ok(metadata) = file.metadata() {
                    self.metadata = metadata;
                }
                resident_pages = self.resident_pages(&file);
                registered = self.registered(&file, snapshot);
                self.read(file)
            }
        };
        if let Content::Foreign(_) = content {
            registered = None;
        }
        let mut pids = snapshot.mapping(self.metadata.dev(), self.metadata.ino());
        // Add registered processes only if their mappings could not be read. Those
        // whose mappings were read are already in the list, or only their children map
        // the file.
        let mut hidden = registered.clone().unwrap_or_default();
        hidden.retain(|pid| snapshot.may_map(*pid, self.metadata.ino()));
        pids.extend(hidden);
        pids.sort_unstable();
        pids.dedup();
        let object = Object {
            name: self.name,
            address: self.address,
            backing: self.backing,
            link: self.link,
            len: self.metadata.len(),
            resident_pages,
            owner: self.metadata.uid(),
            group: self.metadata.gid(),
            mode: self.metadata.mode() & 0o7777,
            users: Users {
                pids,
                attachments: registered.map(|pids| pids.len() as u64),
                unreadable_pids: snapshot.unreadable.clone(),
            },
            content,
        };
        (object, opened)
    }

    /// Returns the processes that hold an attachment lock, or `None` if the kind of
    /// file has no such locks: no process locks a memfd.
    fn registered(&self, file: &File, snapshot: &MapsSnapshot) -> Option<Vec<u32>> {
        match self.backing {
            Backing::Memfd => None,
            _ => attached_pids(file, &snapshot.unreadable).ok(),
        }
    }

    /// Reads the content of an open file.
    fn read(&self, file: File) -> (Content, Option<Opened>) {
        if !self.metadata.is_file() {
            return (Content::Foreign(kind_of(self.metadata.file_type())), None);
        }
        if self.is_temporary {
            return (Content::Unfinished, None);
        }
        let current_epoch = match self.backing {
            Backing::Memfd => Some(SegmentEpoch::ANONYMOUS),
            _ => regular_file::fstat(&file)
                .ok()
                .and_then(|stat| SegmentEpoch::of(&file, stat.identity).ok()),
        };
        let opened = Opened::new(Source::File(file.into()), self.metadata.len());
        content(opened, current_epoch)
    }

    /// Returns how many pages of the file are in memory. For files in memory, this is
    /// the number of allocated blocks. For other files, `mincore` of a mapping returns
    /// it.
    fn resident_pages(&self, file: &File) -> Option<u64> {
        const BLOCK: u64 = 512;
        let page = mem::page_size() as u64;
        if !self.metadata.is_file() {
            return None;
        }
        if self.backing != Backing::File {
            return Some((self.metadata.blocks() * BLOCK).div_ceil(page));
        }
        let len = Some(self.metadata.len()).filter(|len| *len <= MAX_COUNTED_LEN)?;
        let Some(len) = NonZeroUsize::new(usize::try_from(len).ok()?) else {
            return Some(0);
        };
        let mapping = mem::Mapping::of_file_with(file, len, mem::Access::ReadOnly).ok()?;
        Some(mapping.resident_pages().ok()? as u64)
    }
}

fn kind_of(file: FileType) -> FileKind {
    if file.is_file() {
        FileKind::Memory
    } else if file.is_dir() {
        FileKind::Directory
    } else if file.is_symlink() {
        FileKind::Symlink
    } else {
        FileKind::Special
    }
}

/// Returns the content of an object. `current_epoch` is the epoch in which its locks
/// are valid, if known.
pub(super) fn content(
    opened: Result<Opened, Error>,
    current_epoch: Option<SegmentEpoch>,
) -> (Content, Option<Opened>) {
    match opened {
        Ok(opened) => {
            let segment = Box::new(describe(&opened, current_epoch));
            (Content::Segment(segment), Some(opened))
        }
        Err(Error::NotASegment { .. }) => (Content::Foreign(FileKind::Memory), None),
        Err(error @ (Error::UnsupportedFormat { .. } | Error::Corrupt { .. })) => {
            (Content::Unreadable(error), None)
        }
        Err(error) => (Content::Inaccessible(error), None),
    }
}

fn describe(opened: &Opened, current_epoch: Option<SegmentEpoch>) -> Segment {
    let header = &opened.header;
    let epoch = epoch_of(header, current_epoch);
    Segment {
        layout: header.layout.clone(),
        value_offset: header.value_offset,
        elements: header.len,
        removal: header.removal,
        creator: header.creator,
        created: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(header.created)),
        pid_namespace: header.pid_namespace,
        epoch,
        locks: header.is_of_our_abi().then(|| locks::count(opened, epoch)),
    }
}

fn epoch_of(header: &Header, current_epoch: Option<SegmentEpoch>) -> Epoch {
    let Some(current_epoch) = current_epoch else {
        return Epoch::Unknown;
    };
    if !header.epoch.matches(current_epoch) {
        return Epoch::Past;
    }
    match robust::pid_namespace() {
        Ok(ours) if ours == header.pid_namespace => Epoch::Current,
        Ok(_) => Epoch::OtherNamespace,
        Err(_) => Epoch::Unknown,
    }
}
