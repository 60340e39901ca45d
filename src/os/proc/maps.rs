//! Shared mappings of processes, from `/proc/PID/maps`.
//!
//! Everybody may list the processes, but only their own user, and root, may see
//! what they map. Processes come and go while one reads: what is gone is left out.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::parse::{esrch_to_not_found, number};
use super::{fd, task};
use crate::os::mem::Access;

/// What the kernel appends to the path of a file that has lost its name.
pub(crate) const DELETED: &str = " (deleted)";
/// How paths of System V segments begin: eight hexadecimal digits follow, the key.
const SYSTEM_V: &str = "/SYSV";

/// A shared mapping of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MapsEntry {
    /// The first address.
    pub(crate) start: u64,
    /// The address after the last one.
    pub(crate) end: u64,
    pub(crate) access: Access,
    /// Where in the file it begins, in bytes.
    pub(crate) offset: u64,
    /// The device, as `stat` would number it. On file systems that number their
    /// files' devices themselves (btrfs, overlay), `stat` says something else.
    device: u64,
    /// The inode number; the id of a System V segment.
    pub(crate) inode: u64,
    /// As the kernel shows it: with [`DELETED`] behind it if it has gone.
    path: PathBuf,
}

impl MapsEntry {
    /// Device and inode number of the file, as `stat` shows them in most cases.
    pub(crate) fn file(&self) -> (u64, u64) {
        (self.device, self.inode)
    }

    /// The path that the file had, and whether it still has it.
    pub(crate) fn path(&self) -> (&Path, MappedBy) {
        let path = self.path.as_os_str().as_bytes();
        match path.strip_suffix(DELETED.as_bytes()) {
            Some(path) => (Path::new(OsStr::from_bytes(path)), MappedBy::Gone),
            None => (&self.path, MappedBy::There),
        }
    }

    pub(crate) fn is_system_v(&self) -> bool {
        let path = self.path.as_os_str().as_bytes();
        path.starts_with(SYSTEM_V.as_bytes()) && path.ends_with(DELETED.as_bytes())
    }

    /// Whether process `pid` maps the file here that `stat` shows with these numbers,
    /// as far as can be told.
    ///
    /// On file systems that number their files' devices themselves, the device numbers
    /// differ, and two subvolumes of btrfs have the same inode numbers. Then it takes
    /// something that leads to the file: the path, the link to the mapping (for the
    /// privileged), or a descriptor of the process.
    pub(crate) fn maps_file(&self, pid: u32, device: u64, inode: u64) -> bool {
        if !self.may_be_of(inode) {
            return false;
        }
        let is_it = |found: io::Result<std::fs::Metadata>| {
            found.is_ok_and(|found| (found.dev(), found.ino()) == (device, inode))
        };
        self.device == device
            || is_it(in_root_of(pid, &self.path))
            || is_it(std::fs::metadata(self.map_file(pid)))
            || matches!(fd::descriptor_of(pid, device, inode), Ok(Some(_)))
    }

    /// The link to what the mapping shows
    /// ([`proc_pid_map_files(5)`](https://man7.org/linux/man-pages/man5/proc_pid_map_files.5.html)).
    /// Only the privileged may follow it.
    pub(crate) fn map_file(&self, pid: u32) -> PathBuf {
        PathBuf::from(format!(
            "/proc/{pid}/map_files/{:x}-{:x}",
            self.start, self.end
        ))
    }

    /// Returns the link in `/proc/PID/fd` to a descriptor of the mapped file, if the
    /// process has one.
    pub(crate) fn descriptor(&self, pid: u32) -> io::Result<Option<PathBuf>> {
        let (device, inode) = self.file();
        fd::find_descriptor(pid, |link, found| {
            found.ino() == inode
                && (found.dev() == device
                    || std::fs::read_link(link).is_ok_and(|shown| shown == self.path))
        })
    }

    /// Whether the file here has this inode number, on whatever device.
    fn may_be_of(&self, inode: u64) -> bool {
        self.inode == inode && !self.is_system_v()
    }
}

/// Whether a file still has the name by which it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MappedBy {
    /// As far as the kernel tells: a file's real name may end like this.
    Gone,
    There,
}

/// Looks at a path as another process sees it.
fn in_root_of(pid: u32, path: &Path) -> io::Result<std::fs::Metadata> {
    let inside = path.strip_prefix("/").unwrap_or(path);
    std::fs::metadata(Path::new(&format!("/proc/{pid}/root")).join(inside))
}

/// The ids of all processes that we can see, in ascending order.
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

/// [`proc_pid_maps(5)`](https://man7.org/linux/man-pages/man5/proc_pid_maps.5.html):
/// the shared mappings of a process, in the order of their addresses.
///
/// `NotFound`: the process is gone. `PermissionDenied`: it belongs to others.
pub(crate) fn maps_of(pid: u32) -> io::Result<Vec<MapsEntry>> {
    let text = std::fs::read(format!("/proc/{pid}/maps")).map_err(esrch_to_not_found)?;
    Ok(text
        .split(|byte| *byte == b'\n')
        .filter_map(parse_maps_line)
        .collect())
}

/// Reads a line of a list of mappings; `None` if it is not shared, or no such line.
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
        path: unescaped(path.trim_ascii_start()),
    })
}

fn next_word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    // The kernel puts one space behind every column, and more before the path.
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

/// A path in a list of mappings has `\012` for a line break, and nothing else:
/// not even the backslash is escaped.
fn unescaped(path: &[u8]) -> PathBuf {
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

/// All shared mappings of all processes that let us see theirs, one process after
/// the other: no snapshot, but good enough to know who uses what.
#[derive(Debug, Default)]
pub(crate) struct MapsSnapshot {
    /// In ascending order of processes.
    pub(crate) regions: Vec<(u32, MapsEntry)>,
    /// The processes that won't say: they belong to others. Where `/proc` hides the
    /// processes of others (`hidepid`), the first process stands for all of these.
    pub(crate) unreadable: Vec<u32>,
}

impl MapsSnapshot {
    pub(crate) fn take() -> io::Result<Self> {
        let our_namespace = ipc_namespace("self")?;
        let mut survey = Self::default();
        let pids = pids()?;
        if !pids.contains(&FIRST_PROCESS) && is_hidden(FIRST_PROCESS) {
            survey.unreadable.push(FIRST_PROCESS);
        }
        for pid in pids {
            let regions = match maps_of(pid) {
                Ok(regions) => regions,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => {
                    survey.unreadable.push(pid);
                    continue;
                }
            };
            // Elsewhere, the same id is another System V segment.
            let is_at_home = regions.iter().any(MapsEntry::is_system_v)
                && ipc_namespace(&pid.to_string()).is_ok_and(|theirs| theirs == our_namespace);
            let known = regions
                .into_iter()
                .filter(|region| is_at_home || !region.is_system_v());
            survey.regions.extend(known.map(|region| (pid, region)));
        }
        Ok(survey)
    }

    /// The processes that map the file with these numbers, as `stat` shows them.
    pub(crate) fn mapping(&self, device: u64, inode: u64) -> Vec<u32> {
        self.with(|pid, region| region.maps_file(pid, device, inode))
    }

    /// The processes that have attached the System V segment of our namespace.
    pub(crate) fn mapping_system_v(&self, id: i32) -> Vec<u32> {
        let id = u64::try_from(id).ok();
        self.with(|_, region| region.is_system_v() && Some(region.inode) == id)
    }

    /// Whether a process that says by a lock that it is attached to the file with this
    /// inode number may map it, though it can't be seen to: it won't say, is hidden, or
    /// maps a file of that number, and nothing tells on which device.
    pub(crate) fn may_map(&self, pid: u32, inode: u64) -> bool {
        let mut regions = self.regions.iter().filter(|(of, _)| *of == pid);
        self.unreadable.contains(&pid)
            || regions.any(|(_, region)| region.may_be_of(inode))
            || is_hidden(pid)
    }

    fn with(&self, wanted: impl Fn(u32, &MapsEntry) -> bool) -> Vec<u32> {
        let regions = self.regions.iter();
        let found = regions.filter(|(pid, region)| wanted(*pid, region));
        let mut pids: Vec<u32> = found.map(|(pid, _)| *pid).collect();
        pids.dedup();
        pids
    }
}

/// A process that exists for as long as its pid namespace.
const FIRST_PROCESS: u32 = 1;

/// Whether there is such a process, and `/proc` does not show it: a mount option
/// (`hidepid`) hides those of other users.
fn is_hidden(pid: u32) -> bool {
    pid != 0 && !Path::new(&format!("/proc/{pid}")).exists() && !task::is_gone(pid)
}

/// [`ipc_namespaces(7)`](https://man7.org/linux/man-pages/man7/ipc_namespaces.7.html):
/// the number of a process's.
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

    const LEN: NonZeroUsize = NonZeroUsize::new(8192).unwrap();

    #[test]
    fn smoke() {
        let file = memfd::create("proc smoke\n(deleted)", Pages::Normal).unwrap();
        let file = std::fs::File::from(file);
        file.set_len(LEN.get() as u64).unwrap();
        let facts = file.metadata().unwrap();
        let me = std::process::id();
        let look = || {
            MapsSnapshot::take()
                .unwrap()
                .mapping(facts.dev(), facts.ino())
        };
        assert_eq!(look(), [0; 0]);

        let mapping = Mapping::of_file(&file, LEN).unwrap();
        assert_eq!(look(), [me]);
        let regions = maps_of(me).unwrap();
        let region = regions
            .iter()
            .find(|region| region.inode == facts.ino())
            .unwrap();
        assert_eq!(region.start, mapping.base().addr().get() as u64);
        assert_eq!(region.end - region.start, 8192);
        assert_eq!((region.access, region.offset), (Access::ReadWrite, 0));
        let name = Path::new("/memfd:proc smoke\n(deleted)");
        assert_eq!(region.path(), (name, MappedBy::Gone));

        drop(mapping);
        assert_eq!(look(), [0; 0]);
    }

    #[test]
    fn system_v_segments_are_told_from_files() {
        let id = sysv_shm::create_private(LEN, 0o600, Pages::Normal).unwrap();
        let look = || MapsSnapshot::take().unwrap().mapping_system_v(id.0);
        let attached = sysv_shm::attach(id, Access::ReadOnly);
        let found = look();
        let _ = sysv_shm::remove(id);
        let attached = attached.unwrap();
        assert_eq!(found, [std::process::id()]);
        let regions = maps_of(std::process::id()).unwrap();
        let start = attached.base().addr().get() as u64;
        let region = regions.iter().find(|region| region.start == start).unwrap();
        assert!(region.is_system_v());
        assert_eq!(region.access, Access::ReadOnly);
        assert!(!region.maps_file(std::process::id(), region.device, region.inode));
        drop(attached);
        assert_eq!(look(), [0; 0]);
    }

    #[test]
    fn a_file_by_another_device_number_is_known_by_its_path() {
        let facts = std::fs::metadata("/proc/self/exe").unwrap();
        let exe = std::env::current_exe().unwrap();
        let line = format!("1-2 r--s 0 ff:ff {} {}", facts.ino(), exe.display());
        let region = parse_maps_line(line.as_bytes()).unwrap();
        let me = std::process::id();
        assert!(region.maps_file(me, facts.dev(), facts.ino()));
        assert!(!region.maps_file(me, facts.dev() + 1, facts.ino()));
        assert!(!region.maps_file(me, facts.dev(), facts.ino() + 1));
    }

    #[test]
    fn what_is_shown_or_gone_is_not_hidden() {
        for pid in [0, std::process::id(), 1 << 29] {
            assert!(!is_hidden(pid), "{pid}");
            assert!(!MapsSnapshot::default().may_map(pid, 1), "{pid}");
        }
    }

    #[test]
    fn the_same_inode_number_is_not_the_same_file() {
        let me = std::process::id();
        // No other test has it open.
        let path = std::env::temp_dir().join(format!("shm-sync-proc-test-{me}"));
        std::fs::write(&path, "").unwrap();
        let facts = std::fs::metadata(&path).unwrap();
        let line = format!("1-2 r--s 0 ff:ff {} /nowhere", facts.ino());
        let region = parse_maps_line(line.as_bytes()).unwrap();
        assert!(!region.maps_file(me, facts.dev(), facts.ino()));
        // Unless a descriptor says so, or a lock.
        let file = std::fs::File::open(&path).unwrap();
        assert!(region.maps_file(me, facts.dev(), facts.ino()));
        drop(file);
        let _ = std::fs::remove_file(&path);
        let survey = MapsSnapshot {
            regions: vec![(me, region)],
            unreadable: vec![7],
        };
        assert!(survey.may_map(me, facts.ino()) && survey.may_map(7, 0));
        assert!(!survey.may_map(me, facts.ino() + 1));
    }

    #[test]
    fn who_is_gone_is_not_found() {
        let gone = maps_of(1 << 29).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
        assert!(pids().unwrap().contains(&std::process::id()));
    }

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        let region = parse_maps_line(
            b"7f5c02d0d000-7f5c02d0e000 rw-s 00001000 fe:1f 42                         /dev/shm/a  b",
        )
        .unwrap();
        assert_eq!(region.path(), (Path::new("/dev/shm/a  b"), MappedBy::There));
        assert_eq!((region.offset, region.inode), (4096, 42));
        assert_eq!(region.device, libc::makedev(0xfe, 0x1f));

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
        assert_eq!(nameless.path(), (Path::new(""), MappedBy::There));
        assert_eq!(
            unescaped(b"a\\012b\\013\\\\012"),
            Path::new("a\nb\\013\\\n")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_region_or_nothing(
            bytes in any::<Vec<u8>>(),
            changes in proptest::collection::vec((0..64_usize, any::<u8>()), 0..5),
        ) {
            let _ = parse_maps_line(&bytes);
            let mut line = b"7f5c02d0d000-7f5c02d0e000 rw-s 00001000 fe:1f 42         /x".to_vec();
            for (at, byte) in changes {
                let at = at % line.len();
                line[at] = byte;
            }
            if let Some(region) = parse_maps_line(&line) {
                let _ = (region.path(), region.is_system_v());
            }
        }
    }
}
