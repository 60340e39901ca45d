//! Shared mappings of processes, from `/proc/PID/maps`.
//!
//! Every user may list the processes. Only a process's own user and root may read its
//! mappings. Processes that end during a call are omitted.
//!
//! Manual pages: [`proc_pid_maps(5)`], [`proc_pid_map_files(5)`],
//! [`ipc_namespaces(7)`].
//!
//! [`proc_pid_maps(5)`]: https://man7.org/linux/man-pages/man5/proc_pid_maps.5.html
//! [`proc_pid_map_files(5)`]: https://man7.org/linux/man-pages/man5/proc_pid_map_files.5.html
//! [`ipc_namespaces(7)`]: https://man7.org/linux/man-pages/man7/ipc_namespaces.7.html

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::parse::{esrch_to_not_found, number};
use super::{fd, task};
use crate::os::mem::Access;

/// The kernel appends this to the path of a file that was unlinked.
pub(crate) const DELETED: &str = " (deleted)";
/// The paths of System V segments begin with this. The key follows, in eight
/// hexadecimal digits.
const SYSTEM_V: &str = "/SYSV";

/// A shared mapping of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MapsEntry {
    /// The first address.
    pub(crate) start: u64,
    /// The address after the last one.
    pub(crate) end: u64,
    pub(crate) access: Access,
    /// The offset in the file at which the mapping begins, in bytes.
    pub(crate) offset: u64,
    /// The device number of the file system. On file systems with device numbers of
    /// their own for files (btrfs, overlay), `stat` returns another number.
    device: u64,
    /// The inode number, or the id of a System V segment.
    pub(crate) inode: u64,
    /// The path that the kernel shows, with [`DELETED`] at its end if the file was
    /// unlinked.
    path: PathBuf,
}

impl MapsEntry {
    /// Returns the device and inode number of the file. On most file systems they equal
    /// those of `stat`.
    pub(crate) fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// Returns the path by which the file was opened, and whether the file still has
    /// it.
    pub(crate) fn path(&self) -> (&Path, MappedBy) {
        let path = self.path.as_os_str().as_bytes();
        match path.strip_suffix(DELETED.as_bytes()) {
            Some(path) => (Path::new(OsStr::from_bytes(path)), MappedBy::DeletedPath),
            None => (&self.path, MappedBy::Path),
        }
    }

    /// Returns whether a System V segment is mapped.
    pub(crate) fn is_system_v(&self) -> bool {
        let path = self.path.as_os_str().as_bytes();
        path.starts_with(SYSTEM_V.as_bytes()) && path.ends_with(DELETED.as_bytes())
    }

    /// Returns whether this mapping, of process `pid`, is known to be of the file with
    /// these numbers, which are those of `stat`.
    ///
    /// On file systems with device numbers of their own for files, the device numbers
    /// differ, and two subvolumes of btrfs have the same inode numbers. There this
    /// function needs a way to the file: the path, the link to the mapping (only for
    /// privileged users), or a descriptor of the process.
    pub(crate) fn maps_file(&self, pid: u32, device: u64, inode: u64) -> bool {
        if !self.has_inode(inode) {
            return false;
        }
        let is_same = |found: io::Result<std::fs::Metadata>| {
            found.is_ok_and(|found| (found.dev(), found.ino()) == (device, inode))
        };
        self.device == device
            || is_same(in_root_of(pid, &self.path))
            || is_same(std::fs::metadata(self.map_file(pid)))
            || matches!(fd::descriptor_of(pid, device, inode), Ok(Some(_)))
    }

    /// Returns the link to the mapped file: `proc_pid_map_files(5)`. Only privileged
    /// users may follow it.
    pub(crate) fn map_file(&self, pid: u32) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{pid}/map_files/{:x}-{:x}",
            self.start, self.end
        ))
    }

    /// Returns the link of a descriptor of the mapped file, if the process has one.
    /// Where device numbers differ, the path decides.
    pub(crate) fn descriptor(&self, pid: u32) -> io::Result<Option<PathBuf>> {
        let (device, inode) = self.file();
        fd::find_descriptor(pid, |link, found| {
            found.ino() == inode
                && (found.dev() == device
                    || std::fs::read_link(link).is_ok_and(|shown| shown == self.path))
        })
    }

    /// Returns whether the mapped file has this inode number, on any device.
    fn has_inode(&self, inode: u64) -> bool {
        self.inode == inode && !self.is_system_v()
    }
}

/// The kind of path by which a file was mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MappedBy {
    /// A path that the kernel shows as deleted. The real name of a file may end in
    /// [`DELETED`] as well.
    DeletedPath,
    /// A path that exists.
    Path,
}

/// Returns the metadata of the file to which a path leads in the root directory of
/// another process.
fn in_root_of(pid: u32, path: &Path) -> io::Result<std::fs::Metadata> {
    let inside = path.strip_prefix("/").unwrap_or(path);
    std::fs::metadata(Path::new(&format!("/proc/{pid}/root")).join(inside))
}

/// Returns the ids of all processes that `/proc` shows, in ascending order.
pub(crate) fn pids() -> io::Result<Vec<u32>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        pids.extend(pid_in(&entry?.file_name()));
    }
    pids.sort_unstable();
    Ok(pids)
}

fn pid_in(name: &OsStr) -> Option<u32> {
    number(name.as_bytes(), 10)?.try_into().ok()
}

/// Returns the shared mappings of a process in the order of their addresses:
/// `proc_pid_maps(5)`.
///
/// The error is `NotFound` if there is no such process, and `PermissionDenied` if it
/// belongs to another user.
pub(crate) fn maps_of(pid: u32) -> io::Result<Vec<MapsEntry>> {
    let text = std::fs::read(format!("/proc/{pid}/maps")).map_err(esrch_to_not_found)?;
    Ok(text
        .split(|byte| *byte == b'\n')
        .filter_map(parse_maps_line)
        .collect())
}

/// Parses a line of the list. Returns `None` if the mapping is private, or if the line
/// is malformed.
fn parse_maps_line(line: &[u8]) -> Option<MapsEntry> {
    let (range, rest) = next_word(line)?;
    let (permissions, rest) = next_word(rest)?;
    let (offset, rest) = next_word(rest)?;
    let (device, rest) = next_word(rest)?;
    let (inode, path) = next_word(rest)?;
    let [_, writable, _, b's'] = permissions else {
        return None;
    };
    let (start, end) = split_at(range, b'-')?;
    let (major, minor) = split_at(device, b':')?;
    let major = u32::try_from(number(major, 16)?).ok()?;
    let minor = u32::try_from(number(minor, 16)?).ok()?;
    Some(MapsEntry {
        start: number(start, 16)?,
        end: number(end, 16)?,
        access: match writable {
            b'w' => Access::ReadWrite,
            _ => Access::ReadOnly,
        },
        offset: number(offset, 16)?,
        device: libc::makedev(major, minor),
        inode: number(inode, 10)?,
        path: unescape(path.trim_ascii_start()),
    })
}

fn next_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    // One space follows every column, and more spaces precede the path.
    match split_at(text, b' ') {
        None if text.is_empty() => None,
        None => Some((text, &[])),
        Some(parts) => Some(parts),
    }
}

fn split_at(text: &[u8], mark: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == mark)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Replaces `\012` by a line break. The kernel escapes no other character in this list,
/// not even the backslash.
fn unescape(path: &[u8]) -> PathBuf {
    const BREAK: &[u8] = b"\\012";
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, others @ ..] = rest {
        let (byte, after) = match rest.strip_prefix(BREAK) {
            Some(after) => (b'\n', after),
            None => (*first, others),
        };
        plain.push(byte);
        rest = after;
    }
    PathBuf::from(OsStr::from_bytes(&plain))
}

/// The shared mappings of all processes that this process may inspect.
///
/// They are read one process after the other, while the processes go on.
#[derive(Debug, Default)]
pub(crate) struct MapsSnapshot {
    /// Process ids and their mappings, in ascending order of process ids.
    pub(crate) entries: Vec<(u32, MapsEntry)>,
    /// The processes of other users, which this process may not inspect. Where `/proc`
    /// hides these processes (`hidepid`), the first process represents all of them.
    pub(crate) unreadable: Vec<u32>,
}

impl MapsSnapshot {
    /// Reads the mappings of all processes.
    pub(crate) fn take() -> io::Result<Self> {
        let our_namespace = ipc_namespace("self")?;
        let mut snapshot = Self::default();
        let pids = pids()?;
        if !pids.contains(&FIRST_PROCESS) && is_hidden(FIRST_PROCESS) {
            snapshot.unreadable.push(FIRST_PROCESS);
        }
        for pid in pids {
            let entries = match maps_of(pid) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => {
                    snapshot.unreadable.push(pid);
                    continue;
                }
            };
            // In another IPC namespace, the same id is another System V segment.
            let shares_namespace = entries.iter().any(MapsEntry::is_system_v)
                && ipc_namespace(&pid.to_string()).is_ok_and(|other| other == our_namespace);
            let known = entries
                .into_iter()
                .filter(|entry| shares_namespace || !entry.is_system_v());
            snapshot.entries.extend(known.map(|entry| (pid, entry)));
        }
        Ok(snapshot)
    }

    /// Returns the processes that map the file with these numbers, which are those of
    /// `stat`.
    pub(crate) fn mapping(&self, device: u64, inode: u64) -> Vec<u32> {
        self.pids_of(|pid, entry| entry.maps_file(pid, device, inode))
    }

    /// Returns the processes that have attached a System V segment of this process's
    /// IPC namespace.
    pub(crate) fn mapping_system_v(&self, id: i32) -> Vec<u32> {
        let id = u64::try_from(id).ok();
        self.pids_of(|_, entry| entry.is_system_v() && Some(entry.inode) == id)
    }

    /// Returns whether a process may map the file with this inode number although
    /// [`mapping`](Self::mapping) does not return it.
    ///
    /// This is so if its mappings are unreadable, if it is hidden, or if it maps a file
    /// with this inode number on a device that is not known. The caller knows of the
    /// process by its attachment lock.
    pub(crate) fn may_map(&self, pid: u32, inode: u64) -> bool {
        let mut entries = self.entries.iter().filter(|(of, _)| *of == pid);
        self.unreadable.contains(&pid)
            || entries.any(|(_, entry)| entry.has_inode(inode))
            || is_hidden(pid)
    }

    /// Returns the processes with a mapping that matches.
    fn pids_of(&self, matches: impl Fn(u32, &MapsEntry) -> bool) -> Vec<u32> {
        let entries = self.entries.iter();
        let found = entries.filter(|(pid, entry)| matches(*pid, entry));
        let mut pids: Vec<u32> = found.map(|(pid, _)| *pid).collect();
        pids.dedup();
        pids
    }
}

/// The process that exists as long as its pid namespace.
const FIRST_PROCESS: u32 = 1;

/// Returns whether the process exists but `/proc` does not show it, because a mount
/// option (`hidepid`) hides the processes of other users.
fn is_hidden(pid: u32) -> bool {
    pid != 0 && !Path::new(&format!("/proc/{pid}")).exists() && !task::is_gone(pid)
}

/// Returns the inode number of a process's IPC namespace: `ipc_namespaces(7)`.
fn ipc_namespace(pid: &str) -> io::Result<u64> {
    Ok(std::fs::metadata(format!("/proc/{pid}/ns/ipc"))?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::mem::{Mapping, Pages};
    use crate::os::mem::{memfd, sysv_shm};
    use proptest::prelude::*;
    use std::num::NonZeroUsize;

    /// A whole number of pages, which may have up to 64 KiB.
    const LEN: NonZeroUsize = NonZeroUsize::new(1 << 16).unwrap();

    #[test]
    fn smoke() {
        let file = memfd::create("proc smoke\n(deleted)", Pages::Normal).unwrap();
        let file = std::fs::File::from(file);
        file.set_len(LEN.get() as u64).unwrap();
        let metadata = file.metadata().unwrap();
        let me = std::process::id();
        // A child that another test forks meanwhile has the mapping as well.
        let is_user = || {
            let snapshot = MapsSnapshot::take().unwrap();
            let users = snapshot.mapping(metadata.dev(), metadata.ino());
            users.contains(&me)
        };
        assert!(!is_user(), "the file is not mapped yet");

        let mapping = Mapping::of_file(&file, LEN).unwrap();
        assert!(is_user(), "the file is mapped");
        let entries = maps_of(me).unwrap();
        let entry = entries
            .iter()
            .find(|entry| entry.inode == metadata.ino())
            .unwrap();
        assert_eq!(entry.start, mapping.base().addr().get() as u64);
        assert_eq!(entry.end - entry.start, LEN.get() as u64);
        assert_eq!((entry.access, entry.offset), (Access::ReadWrite, 0));
        let name = Path::new("/memfd:proc smoke\n(deleted)");
        assert_eq!(entry.path(), (name, MappedBy::DeletedPath));

        drop(mapping);
        assert!(!is_user(), "the file is not mapped any more");
    }

    #[test]
    fn system_v_is_distinguished_from_files() {
        let id = sysv_shm::create_private(LEN, 0o600, Pages::Normal).unwrap();
        // A child that another test forks meanwhile is attached as well.
        let is_user = || {
            let users = MapsSnapshot::take().unwrap().mapping_system_v(id.0);
            users.contains(&std::process::id())
        };
        let attached = sysv_shm::attach(id, Access::ReadOnly);
        let found = is_user();
        let _ = sysv_shm::remove(id);
        let attached = attached.unwrap();
        assert!(found, "this process is attached");
        let entries = maps_of(std::process::id()).unwrap();
        let start = attached.base().addr().get() as u64;
        let entry = entries.iter().find(|entry| entry.start == start).unwrap();
        assert!(entry.is_system_v());
        assert_eq!(entry.access, Access::ReadOnly);
        assert!(!entry.maps_file(std::process::id(), entry.device, entry.inode));
        drop(attached);
        assert!(!is_user(), "this process is not attached any more");
    }

    #[test]
    fn file_is_found_by_path_if_device_differs() {
        let metadata = std::fs::metadata("/proc/self/exe").unwrap();
        let exe = std::env::current_exe().unwrap();
        let line = format!("1-2 r--s 0 ff:ff {} {}", metadata.ino(), exe.display());
        let entry = parse_maps_line(line.as_bytes()).unwrap();
        let me = std::process::id();
        assert!(entry.maps_file(me, metadata.dev(), metadata.ino()));
        assert!(!entry.maps_file(me, metadata.dev() + 1, metadata.ino()));
        assert!(!entry.maps_file(me, metadata.dev(), metadata.ino() + 1));
    }

    #[test]
    fn visible_or_ended_process_is_not_hidden() {
        for pid in [0, std::process::id(), 1 << 29] {
            assert!(!is_hidden(pid), "{pid}");
            assert!(!MapsSnapshot::default().may_map(pid, 1), "{pid}");
        }
    }

    #[test]
    fn equal_inode_numbers_are_not_enough() {
        let me = std::process::id();
        // No other test has it open.
        let path = std::env::temp_dir().join(format!("shm-sync-proc-test-{me}"));
        std::fs::write(&path, "").unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        let line = format!("1-2 r--s 0 ff:ff {} /nowhere", metadata.ino());
        let entry = parse_maps_line(line.as_bytes()).unwrap();
        assert!(!entry.maps_file(me, metadata.dev(), metadata.ino()));
        // A descriptor or an attachment lock decides.
        let file = std::fs::File::open(&path).unwrap();
        assert!(entry.maps_file(me, metadata.dev(), metadata.ino()));
        drop(file);
        let _ = std::fs::remove_file(&path);
        let snapshot = MapsSnapshot {
            entries: vec![(me, entry)],
            unreadable: vec![7],
        };
        assert!(snapshot.may_map(me, metadata.ino()) && snapshot.may_map(7, 0));
        assert!(!snapshot.may_map(me, metadata.ino() + 1));
    }

    #[test]
    fn maps_of_ended_process_are_not_found() {
        let gone = maps_of(1 << 29).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert!(pids().unwrap().contains(&std::process::id()));
    }

    #[test]
    fn lines_of_the_kernel_are_parsed() {
        let entry = parse_maps_line(
            b"7f5c02d0d000-7f5c02d0e000 rw-s 00001000 fe:1f 42                         /dev/shm/a  b",
        )
        .unwrap();
        assert_eq!(entry.path(), (Path::new("/dev/shm/a  b"), MappedBy::Path));
        assert_eq!((entry.offset, entry.inode), (4096, 42));
        assert_eq!(entry.device, libc::makedev(0xfe, 0x1f));

        let private = b"7f5c02d0d000-7f5c02d0e000 rw-p 00000000 00:00 0 ";
        assert_eq!(parse_maps_line(private), None);
        for nonsense in [
            "",
            " ",
            "1-2 rw-s 0 1:1",
            "1-2 rw-s 0 1:1 x /",
            "1+2 rw-s 0 1:1 1 /",
        ] {
            assert_eq!(parse_maps_line(nonsense.as_bytes()), None, "{nonsense:?}");
        }
        let nameless = parse_maps_line(b"1-2 rw-s 0 1:1 5").unwrap();
        assert_eq!(nameless.path(), (Path::new(""), MappedBy::Path));
        assert_eq!(unescape(b"a\\012b\\013\\\\012"), Path::new("a\nb\\013\\\n"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(
            bytes in any::<Vec<u8>>(),
            changes in proptest::collection::vec((0..64_usize, any::<u8>()), 0..5),
        ) {
            let _ = parse_maps_line(&bytes);
            let mut line = b"7f5c02d0d000-7f5c02d0e000 rw-s 00001000 fe:1f 42         /x".to_vec();
            for (at, byte) in changes {
                let at = at % line.len();
                line[at] = byte;
            }
            if let Some(entry) = parse_maps_line(&line) {
                let _ = (entry.path(), entry.is_system_v());
            }
        }
    }
}
