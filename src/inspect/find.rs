//! Finds objects by their addresses, in the system's lists, and through the processes
//! that map them.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::file::{self, MEMFD, identity_of};
use super::reader::{Found, Opened, Source, os_error};
use super::types::{Attachment, Content, FileKind, Link, Object, Scope, Segment, Users};
use crate::error::Error;
use crate::os::proc::maps::{self, MappedBy, MapsEntry, MapsSnapshot};
use crate::os::proc::sysvipc;
use crate::os::regular_file::{self, SHM_DIRECTORY};
use crate::os::{mem, mem::sysv_shm};
use crate::segment::internals::{
    Epoch as SegmentEpoch, Lifecycle, MEMFD_LABEL, Permissions, Probe, Target,
    is_marked_unfinished, is_temporary,
};
use crate::segment::{Address, Backing};

/// Implements [`super::objects`].
pub(super) fn objects(scope: Scope) -> Result<Vec<Object>, Error> {
    let snapshot = take_snapshot()?;
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for path in posix_objects().map_err(os_error("reading /dev/shm"))? {
        // An object that was removed in the meantime is omitted.
        let Ok((object, _)) = file::at_path(&path, &snapshot) else {
            continue;
        };
        seen.extend(identity_of(&path));
        all.push(object);
    }
    for row in sysvipc::list().map_err(os_error("reading /proc/sysvipc/shm"))? {
        all.extend(system_v(row, &snapshot).map(|(object, _)| object));
    }
    for mappings in mappings_by_file(&snapshot.entries) {
        let Some((object, identity)) = mapped(&mappings, &snapshot) else {
            continue;
        };
        if seen.insert(identity) {
            all.push(object);
        }
    }
    all.retain(|object| is_in(scope, object));
    all.sort_by(|a, b| (a.backing, &a.name).cmp(&(b.backing, &b.name)));
    Ok(all)
}

/// Returns the object with this address.
pub(super) fn find(address: &Address) -> Result<Found, Error> {
    let snapshot = take_snapshot()?;
    let id = match address.target()? {
        Target::File(path) => return file::at_path(&path, &snapshot),
        Target::SystemVId(id) => id,
        Target::SystemVKey(key) => sysv_shm::find(key).map_err(os_error("shmget"))?.0,
    };
    let rows = sysvipc::list().map_err(os_error("reading /proc/sysvipc/shm"))?;
    let row = rows.into_iter().find(|row| row.id.0 == id);
    row.and_then(|row| system_v(row, &snapshot))
        .ok_or(Error::NotFound { address: None })
}

/// Returns the segment with this address, if this program can read its locks.
pub(super) fn find_readable(address: &Address) -> Result<(Box<Segment>, Opened), Error> {
    let found = find_segment(address)?;
    if found.0.locks.is_none() {
        return Err(Error::NotASegment { address: None });
    }
    Ok(found)
}

/// Returns the segment with this address.
pub(super) fn find_segment(address: &Address) -> Result<(Box<Segment>, Opened), Error> {
    let (object, opened) = find(address)?;
    match (object.content, opened) {
        (Content::Segment(segment), Some(opened)) => Ok((segment, opened)),
        (Content::Unreadable(error) | Content::Inaccessible(error), _) => Err(error),
        _ => Err(Error::NotASegment { address: None }),
    }
}

/// Implements [`super::attachments_of`].
pub(super) fn attachments_of(pid: u32, scope: Scope) -> Result<Vec<Attachment>, Error> {
    let entries = maps::maps_of(pid).map_err(os_error("reading /proc/PID/maps"))?;
    let snapshot = take_snapshot()?;
    let mut all = Vec::new();
    for entry in entries {
        let object = if entry.is_system_v() {
            let rows = sysvipc::list().map_err(os_error("reading /proc/sysvipc/shm"))?;
            let mut rows = rows.into_iter();
            let row = rows.find(|row| u64::try_from(row.id.0) == Ok(entry.inode));
            row.and_then(|row| system_v(row, &snapshot))
                .map(|(object, _)| object)
        } else {
            mapped(&[(pid, &entry)], &snapshot).map(|(object, _)| object)
        };
        let Some(object) = object.filter(|object| is_in(scope, object)) else {
            continue;
        };
        all.push(Attachment {
            addresses: entry.start..entry.end,
            access: entry.access,
            offset: entry.offset,
            object,
        });
    }
    Ok(all)
}

/// Returns whether the scope includes the object.
fn is_in(scope: Scope, object: &Object) -> bool {
    scope == Scope::Everything || !matches!(object.content, Content::Foreign(_))
}

/// Returns the paths of everything in [`SHM_DIRECTORY`].
fn posix_objects() -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(SHM_DIRECTORY) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Process ids, and their mappings of one file.
type Mappings<'a> = Vec<(u32, &'a MapsEntry)>;

/// Groups mappings by file.
///
/// Subvolumes of btrfs share device and inode numbers, so the directory distinguishes
/// files as well. A file that is mapped through two directories is found twice, and
/// [`objects`] lists it once.
fn mappings_by_file(entries: &[(u32, MapsEntry)]) -> Vec<Mappings<'_>> {
    let mut files: BTreeMap<_, Mappings<'_>> = BTreeMap::new();
    for (pid, entry) in entries {
        if !entry.is_system_v() {
            let directory = entry.path().0.parent();
            let mappings = files.entry((entry.file(), directory)).or_default();
            mappings.push((*pid, entry));
        }
    }
    files.into_values().collect()
}

/// Returns the mapped object, and its device and inode number. Returns `None` if
/// [`super::objects`] does not list such objects, or if no mapping leads to it.
fn mapped(mappings: &[(u32, &MapsEntry)], snapshot: &MapsSnapshot) -> Option<(Object, (u64, u64))> {
    let mut mappings = mappings.to_vec();
    mappings.sort_by_key(|(_, entry)| path_rank(entry));
    let (_, entry) = mappings.first()?;
    let (path, _) = entry.path();
    let label = path.to_str().and_then(|path| path.strip_prefix(MEMFD));
    if label.is_some_and(|label| !label.starts_with(MEMFD_LABEL)) || path.starts_with("/dev/zero") {
        return None;
    }
    let is_posix = regular_file::is_posix_object(path);
    let found = mappings.iter().find_map(|(pid, entry)| match entry.path() {
        (path, MappedBy::Path) => by_path(*pid, entry, path, snapshot),
        (path, MappedBy::DeletedPath) => by_descriptor(*pid, entry, path, snapshot),
    });
    let (object, identity) = found?;
    let is_foreign = matches!(
        object.content,
        Content::Foreign(_) | Content::Inaccessible(_)
    );
    (!is_foreign || is_posix || label.is_some()).then_some((object, identity))
}

/// Returns the rank of the path that the kernel shows: the lowest is the most useful.
///
/// For the process that created a file without a name, the kernel shows `#123
/// (deleted)` for ever, even after the file got a name. If the file had a temporary
/// name, and was linked to another one, the kernel shows the temporary name.
fn path_rank(entry: &MapsEntry) -> u8 {
    let (path, link) = entry.path();
    let name = path.file_name().map_or(&[][..], |name| name.as_bytes());
    let is_of_creator = name.starts_with(b"#") || is_temporary(path);
    match link {
        MappedBy::Path => 0,
        MappedBy::DeletedPath if !is_of_creator => 1,
        MappedBy::DeletedPath => 2,
    }
}

/// Returns the object that has the path, if the entry maps it.
fn by_path(
    pid: u32,
    entry: &MapsEntry,
    path: &Path,
    snapshot: &MapsSnapshot,
) -> Option<(Object, (u64, u64))> {
    let inside = path.strip_prefix("/").unwrap_or(path);
    // In a container, the same path may lead to another file.
    let elsewhere = Path::new(&format!("/proc/{pid}/root")).join(inside);
    [path, &elsewhere].into_iter().find_map(|path| {
        let (device, inode) = identity_of(path)?;
        if !entry.maps_file(pid, device, inode) {
            return None;
        }
        let (object, _) = file::at_path(path, snapshot).ok()?;
        Some((object, (device, inode)))
    })
}

/// Returns the object behind a descriptor of the process, or behind the link to the
/// mapping. `shown` is the path that the kernel shows.
fn by_descriptor(
    pid: u32,
    entry: &MapsEntry,
    shown: &Path,
    snapshot: &MapsSnapshot,
) -> Option<(Object, (u64, u64))> {
    let link = match entry.descriptor(pid) {
        Ok(Some(path)) => path,
        _ => entry.map_file(pid),
    };
    let metadata = std::fs::metadata(&link).ok()?;
    let identity = (metadata.dev(), metadata.ino());
    let (object, _) = file::behind_link(&link, shown, snapshot).ok()?;
    Some((object, identity))
}

/// Reads a System V segment. Returns `None` if it was removed in the meantime.
fn system_v(row: sysvipc::Row, snapshot: &MapsSnapshot) -> Option<Found> {
    let status = row.status;
    let users = Users {
        pids: snapshot.mapping_system_v(row.id.0),
        attachments: Some(status.attached),
        unreadable_pids: snapshot.unreadable.clone(),
    };
    let by_id = Address::system_v_id(row.id.0);
    let by_key = Address::system_v(status.key).ok();
    let (content, opened) = match Probe::at(row.id, Permissions::without_owner_check()) {
        Ok(None) => return None,
        Ok(Some(probe)) => {
            let lifecycle = probe.lifecycle();
            match (lifecycle, Opened::new(Source::SystemV(probe), status.len)) {
                (Lifecycle::Unfinished, Err(Error::NotASegment { .. }))
                    if !is_marked_unfinished(status.mode) =>
                {
                    (Content::Foreign(FileKind::Memory), None)
                }
                (Lifecycle::Unfinished, _) => (Content::Unfinished, None),
                (_, opened) => file::content(opened, Some(SegmentEpoch::ANONYMOUS)),
            }
        }
        Err(source) => (Content::Inaccessible(os_error("shmat")(source)), None),
    };
    let object = Object {
        name: by_key.as_ref().unwrap_or(&by_id).to_string(),
        address: Some(by_id),
        backing: Backing::SystemV,
        link: match status.key {
            _ if status.is_marked_for_removal => Link::Unlinked,
            0 => Link::Nameless,
            _ => Link::Named,
        },
        len: status.len,
        resident_pages: Some(row.resident.div_ceil(mem::page_size() as u64)),
        owner: status.owner,
        group: status.group,
        mode: status.mode,
        users,
        content,
    };
    Some((object, opened))
}

/// Reads the mappings of all processes.
fn take_snapshot() -> Result<MapsSnapshot, Error> {
    // If /proc is missing, the error must not be `NotFound`: that is for the object.
    MapsSnapshot::take().map_err(|source| Error::Os {
        address: None,
        call: "reading /proc",
        source,
    })
}
