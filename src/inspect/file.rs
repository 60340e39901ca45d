//! What a file is, and what is in it.

use std::fs::{File, FileType, Metadata};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::census::{Found, failure};
use super::source::{Opened, Source};
use super::{Content, Epoch, FileKind, Link, Object, Segment, Users, locks};
use crate::error::Error;
use crate::os::mem;
use crate::os::proc::{self, DELETED, MapsSnapshot};
use crate::os::regular_file;
use crate::robust;
use crate::segment::internals::{Epoch as SegmentEpoch, Header, MEMFD_LABEL, attached_pids};
use crate::segment::{Address, Backing};

/// How the kernel shows a memfd's label.
pub(super) const MEMFD: &str = "/memfd:";

/// The resident pages of longer files are not counted, which takes a while.
const LONGEST_COUNTED: u64 = 64 << 30;

/// Device and inode number of what is at `path`.
pub(super) fn identity_of(path: &Path) -> Option<(u64, u64)> {
    let facts = std::fs::symlink_metadata(path).ok()?;
    Some((facts.dev(), facts.ino()))
}

/// What is at `path`.
pub(super) fn at_path(path: &Path, survey: &MapsSnapshot) -> Result<Found, Error> {
    if proc::is_link(path) {
        let shown = std::fs::read_link(path).map_err(failure("readlink"))?;
        return behind_link(path, &shown, survey);
    }
    let facts = std::fs::symlink_metadata(path).map_err(failure("lstat"))?;
    let address = Address::of_file_at(path).ok();
    let name = address
        .as_ref()
        .map_or_else(|| path.to_string_lossy().into_owned(), Address::to_string);
    // The longest names in /dev/shm are POSIX objects whose address is a path.
    let backing = backing_of(path);
    let file = Candidate {
        name,
        address,
        backing,
        link: Link::Named,
        facts,
    };
    let opened = match file.facts.is_file() {
        true => regular_file::open(path, mem::Access::ReadOnly),
        false => Ok(None),
    };
    finish(file, opened, survey)
}

/// What a link such as `/proc/PID/fd/N` leads to, which the kernel `shows` there.
pub(super) fn behind_link(
    link: &Path,
    shown: &Path,
    survey: &MapsSnapshot,
) -> Result<Found, Error> {
    let mut file = Candidate {
        name: shown.to_string_lossy().into_owned(),
        address: Address::file(link).ok(),
        backing: Backing::File,
        link: Link::Named,
        facts: std::fs::metadata(link).map_err(failure("stat"))?,
    };
    file.is_known_as(shown);
    finish(file, proc::open_link(link, mem::Access::ReadOnly), survey)
}

fn finish(
    file: Candidate,
    opened: io::Result<Option<OwnedFd>>,
    survey: &MapsSnapshot,
) -> Result<Found, Error> {
    match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::NotFound),
        opened => Ok(file.look(opened, survey)),
    }
}

fn backing_of(path: &Path) -> Backing {
    match regular_file::is_posix_object(path) {
        true => Backing::Posix,
        false => Backing::File,
    }
}

/// A file that may hold a segment, before it is read.
struct Candidate {
    name: String,
    address: Option<Address>,
    backing: Backing,
    link: Link,
    facts: Metadata,
}

impl Candidate {
    /// Takes over what the kernel shows of a file that has no name, or had one.
    fn is_known_as(&mut self, shown: &Path) {
        let text = shown.to_string_lossy();
        let text = text.strip_suffix(DELETED).unwrap_or(&text);
        if let Some(label) = text.strip_prefix(MEMFD) {
            self.name = format!("memfd:{}", label.strip_prefix(MEMFD_LABEL).unwrap_or(label));
            self.backing = Backing::Memfd;
            self.link = Link::Nameless;
            return;
        }
        let path = PathBuf::from(text);
        let now = self.name_now(&path);
        let address = Address::of_file_at(now.as_deref().unwrap_or(&path));
        self.backing = backing_of(&path);
        self.name = address
            .as_ref()
            .map_or_else(|_| text.to_owned(), Address::to_string);
        if now.is_some() {
            self.address = address.ok();
        }
        if self.facts.nlink() == 0 {
            self.link = Link::Unlinked;
        }
    }

    /// The name that it has now, in the directory of the path that is shown.
    fn name_now(&self, shown: &Path) -> Option<PathBuf> {
        let identity = (self.facts.dev(), self.facts.ino());
        if self.facts.nlink() == 0 {
            return None;
        }
        if identity_of(shown) == Some(identity) {
            return Some(shown.to_owned());
        }
        let mut entries = std::fs::read_dir(shown.parent()?).ok()?.flatten();
        let found = entries.find(|entry| {
            entry.ino() == self.facts.ino() && identity_of(&entry.path()) == Some(identity)
        });
        found.map(|entry| entry.path())
    }

    /// Reads it, if it could be opened; `None` if it is nothing to be opened.
    fn look(mut self, file: io::Result<Option<OwnedFd>>, survey: &MapsSnapshot) -> Found {
        let kind = kind_of(self.facts.file_type());
        let mut resident_pages = None;
        let mut registered = None;
        let (content, opened) = match file {
            Err(source) => (Content::Inaccessible(failure("open")(source)), None),
            Ok(None) => (Content::Foreign(kind), None),
            Ok(Some(file)) => {
                let file = File::from(file);
                // Of what was opened, and not of what had the name a moment ago.
                if let Ok(facts) = file.metadata() {
                    self.facts = facts;
                }
                resident_pages = self.resident_pages(&file);
                registered = self.registered(&file, survey);
                self.read(file)
            }
        };
        if let Content::Foreign(_) = content {
            registered = None;
        }
        let mut pids = survey.mapping(self.facts.dev(), self.facts.ino());
        // A registered process that is seen not to map it has children that do.
        let mut hidden = registered.clone().unwrap_or_default();
        hidden.retain(|pid| survey.may_map(*pid, self.facts.ino()));
        pids.extend(hidden);
        pids.sort_unstable();
        pids.dedup();
        let object = Object {
            name: self.name,
            address: self.address,
            backing: self.backing,
            link: self.link,
            len: self.facts.len(),
            resident_pages,
            owner: self.facts.uid(),
            group: self.facts.gid(),
            mode: self.facts.mode() & 0o7777,
            users: Users {
                pids,
                attachments: registered.map(|pids| pids.len() as u64),
                unreadable_processes: survey.unreadable.len(),
            },
            content,
        };
        (object, opened)
    }

    /// Those who hold a lock that says that they are attached. Nobody holds one of
    /// a memfd, which only those can reach who have it.
    fn registered(&self, file: &File, survey: &MapsSnapshot) -> Option<Vec<u32>> {
        match self.backing {
            Backing::Memfd => None,
            _ => attached_pids(file, &survey.unreadable).ok(),
        }
    }

    fn read(&self, file: File) -> (Content, Option<Opened>) {
        if !self.facts.is_file() {
            return (Content::Foreign(kind_of(self.facts.file_type())), None);
        }
        let home = match self.backing {
            Backing::Memfd => Some(SegmentEpoch::NAMELESS),
            _ => SegmentEpoch::of(&file).ok(),
        };
        let opened = Opened::new(Source::File(file.into()), self.facts.len());
        content(opened, home)
    }

    /// How much of it is in memory. The file systems that are memory say it; of
    /// others, a mapping that is never touched does.
    fn resident_pages(&self, file: &File) -> Option<u64> {
        const BLOCK: u64 = 512;
        let page = mem::page_size() as u64;
        if !self.facts.is_file() {
            return None;
        }
        if self.backing != Backing::File {
            return Some((self.facts.blocks() * BLOCK).div_ceil(page));
        }
        let len = Some(self.facts.len()).filter(|len| *len <= LONGEST_COUNTED)?;
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

// --- What is in it --------------------------------------------------------------

/// `home` is where its locks should have come to life, if that is known.
pub(super) fn content(
    opened: Result<Opened, Error>,
    home: Option<SegmentEpoch>,
) -> (Content, Option<Opened>) {
    match opened {
        Ok(opened) => {
            let segment = Box::new(describe(&opened, home));
            (Content::Segment(segment), Some(opened))
        }
        Err(Error::NotASegment) => (Content::Foreign(FileKind::Memory), None),
        Err(error @ (Error::UnsupportedFormat { .. } | Error::Corrupt(_))) => {
            (Content::Unreadable(error), None)
        }
        Err(error) => (Content::Inaccessible(error), None),
    }
}

fn describe(opened: &Opened, home: Option<SegmentEpoch>) -> Segment {
    let header = &opened.header;
    Segment {
        layout: header.layout.clone(),
        value_offset: header.value_offset,
        elements: header.len,
        removal: header.removal,
        creator: header.creator,
        created: SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(header.created)),
        pid_namespace: header.pid_namespace,
        epoch: epoch_of(header, home),
        locks: header.is_of_our_abi().then(|| locks::count(opened)),
    }
}

fn epoch_of(header: &Header, home: Option<SegmentEpoch>) -> Epoch {
    let Some(home) = home else {
        return Epoch::Unknown;
    };
    if !header.origin.is(home) {
        return Epoch::Past;
    }
    match robust::pid_namespace() {
        Ok(ours) if ours == header.pid_namespace => Epoch::Current,
        Ok(_) => Epoch::OtherNamespace,
        Err(_) => Epoch::Unknown,
    }
}
