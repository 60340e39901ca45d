//! Finding objects: by name, in the system's lists, and through the processes
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
    Epoch as SegmentEpoch, Lifecycle, MEMFD_LABEL, Permissions, Probe, Target, is_marked_unfinished,
};
use crate::segment::{Address, Backing};

/// See [`super::objects`].
pub(super) fn objects(scope: Scope) -> Result<Vec<Object>, Error> {
    let survey = take_survey()?;
    let mut seen = HashSet::new();
    let mut all = Vec::new();
    for path in posix_objects().map_err(os_error("reading /dev/shm"))? {
        // What has gone meanwhile is left out.
        let Ok((object, _)) = file::at_path(&path, &survey) else {
            continue;
        };
        seen.extend(identity_of(&path));
        all.push(object);
    }
    for row in sysvipc::list().map_err(os_error("reading /proc/sysvipc/shm"))? {
        all.extend(system_v(row, &survey).map(|(object, _)| object));
    }
    for views in views_by_file(&survey.entries) {
        let Some((object, identity)) = mapped(&views, &survey) else {
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

/// The object of that address.
pub(super) fn find(address: &Address) -> Result<Found, Error> {
    let survey = take_survey()?;
    let id = match address.target()? {
        Target::File(path) => return file::at_path(&path, &survey),
        Target::SystemVId(id) => id,
        Target::SystemVKey(key) => sysv_shm::find(key).map_err(os_error("shmget"))?.0,
    };
    let rows = sysvipc::list().map_err(os_error("reading /proc/sysvipc/shm"))?;
    let row = rows.into_iter().find(|row| row.id.0 == id);
    row.and_then(|row| system_v(row, &survey))
        .ok_or(Error::NotFound)
}

/// The segment of that address, with locks that this program can read.
pub(super) fn find_readable(address: &Address) -> Result<(Box<Segment>, Opened), Error> {
    let (object, opened) = find(address)?;
    match (object.content, opened) {
        (Content::Segment(segment), Some(opened)) if segment.locks.is_some() => {
            Ok((segment, opened))
        }
        (Content::Unreadable(error) | Content::Inaccessible(error), _) => Err(error),
        _ => Err(Error::NotASegment),
    }
}

/// See [`super::attachments_of`].
pub(super) fn attachments_of(pid: u32, scope: Scope) -> Result<Vec<Attachment>, Error> {
    let regions = maps::maps_of(pid).map_err(os_error("reading /proc/PID/maps"))?;
    let survey = take_survey()?;
    let mut all = Vec::new();
    for region in regions {
        let object = if region.is_system_v() {
            let rows = sysvipc::list().map_err(os_error("reading /proc/sysvipc/shm"))?;
            let mut rows = rows.into_iter();
            let row = rows.find(|row| u64::try_from(row.id.0) == Ok(region.inode));
            row.and_then(|row| system_v(row, &survey))
                .map(|(object, _)| object)
        } else {
            mapped(&[(pid, &region)], &survey).map(|(object, _)| object)
        };
        let Some(object) = object.filter(|object| is_in(scope, object)) else {
            continue;
        };
        all.push(Attachment {
            addresses: region.start..region.end,
            access: region.access,
            offset: region.offset,
            object,
        });
    }
    Ok(all)
}

fn is_in(scope: Scope, object: &Object) -> bool {
    scope == Scope::Everything || !matches!(object.content, Content::Foreign(_))
}

fn posix_objects() -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(SHM_DIRECTORY) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Processes, and what they have mapped of one file.
type Views<'a> = Vec<(u32, &'a MapsEntry)>;

/// The views of each file. Subvolumes of btrfs share device and inode numbers, so the
/// directory belongs to what tells files apart. A file that is seen by way of two
/// directories is found twice, and listed once.
fn views_by_file(regions: &[(u32, MapsEntry)]) -> Vec<Views<'_>> {
    let mut files: BTreeMap<_, Views<'_>> = BTreeMap::new();
    for (pid, region) in regions {
        if !region.is_system_v() {
            let directory = region.path().0.parent();
            let views = files.entry((region.file(), directory)).or_default();
            views.push((*pid, region));
        }
    }
    files.into_values().collect()
}

/// The object that processes have mapped, and its device and inode numbers. `None`
/// if it is none that [`super::objects`] lists, or none of them can show it.
fn mapped(views: &[(u32, &MapsEntry)], survey: &MapsSnapshot) -> Option<(Object, (u64, u64))> {
    let mut views = views.to_vec();
    views.sort_by_key(|(_, region)| path_rank(region));
    let (_, region) = views.first()?;
    let (path, _) = region.path();
    let label = path.to_str().and_then(|path| path.strip_prefix(MEMFD));
    if label.is_some_and(|label| !label.starts_with(MEMFD_LABEL)) || path.starts_with("/dev/zero") {
        return None;
    }
    let in_shm = regular_file::is_posix_object(path);
    let found = views.iter().find_map(|(pid, region)| match region.path() {
        (path, MappedBy::Path) => by_path(*pid, region, path, survey),
        (path, MappedBy::DeletedPath) => by_descriptor(*pid, region, path, survey),
    });
    let (object, identity) = found?;
    let is_foreign = matches!(
        object.content,
        Content::Foreign(_) | Content::Inaccessible(_)
    );
    (!is_foreign || in_shm || label.is_some()).then_some((object, identity))
}

/// How much the path that the kernel shows is worth: the lower, the better. Who
/// created a file without a name sees it for ever as `#123 (deleted)`, whatever
/// name it was given later.
fn path_rank(region: &MapsEntry) -> u8 {
    let (path, link) = region.path();
    let name = path.file_name().map_or(&[][..], |name| name.as_bytes());
    match link {
        MappedBy::Path => 0,
        MappedBy::DeletedPath if !name.starts_with(b"#") => 1,
        MappedBy::DeletedPath => 2,
    }
}

fn by_path(
    pid: u32,
    region: &MapsEntry,
    path: &Path,
    survey: &MapsSnapshot,
) -> Option<(Object, (u64, u64))> {
    let inside = path.strip_prefix("/").unwrap_or(path);
    // Containers have other files by the same path.
    let elsewhere = Path::new(&format!("/proc/{pid}/root")).join(inside);
    [path, &elsewhere].into_iter().find_map(|path| {
        let (device, inode) = identity_of(path)?;
        if !region.maps_file(pid, device, inode) {
            return None;
        }
        let (object, _) = file::at_path(path, survey).ok()?;
        Some((object, (device, inode)))
    })
}

fn by_descriptor(
    pid: u32,
    region: &MapsEntry,
    shown: &Path,
    survey: &MapsSnapshot,
) -> Option<(Object, (u64, u64))> {
    let link = match region.descriptor(pid) {
        Ok(Some(path)) => path,
        _ => region.map_file(pid),
    };
    let facts = std::fs::metadata(&link).ok()?;
    let identity = (facts.dev(), facts.ino());
    let (object, _) = file::behind_link(&link, shown, survey).ok()?;
    Some((object, identity))
}

/// What is in a System V segment; `None` if it has gone meanwhile.
fn system_v(row: sysvipc::Row, survey: &MapsSnapshot) -> Option<Found> {
    let status = row.status;
    let users = Users {
        pids: survey.mapping_system_v(row.id.0),
        attachments: Some(status.attached),
        unreadable_processes: survey.unreadable.len(),
    };
    let by_id = Address::system_v_id(row.id.0);
    let by_key = Address::system_v(status.key).ok();
    let (content, opened) = match Probe::at(row.id, Permissions::without_owner_check()) {
        Ok(None) => return None,
        Ok(Some(look)) => {
            let life = look.lifecycle();
            match (life, Opened::new(Source::SystemV(look), status.len)) {
                (Lifecycle::Unfinished, Err(Error::NotASegment))
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

fn take_survey() -> Result<MapsSnapshot, Error> {
    // Without /proc it is not the object that is not found.
    MapsSnapshot::take().map_err(|source| Error::Os {
        call: "reading /proc",
        source,
    })
}
