//! Open files of processes, by the links in `/proc/PID/fd`.

use std::ffi::OsStr;
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::parse::esrch_to_not_found;
use crate::os::descriptor::above_standard;
use crate::os::mem::Access;

/// [`proc_pid_fd(5)`](https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html):
/// a path by which the file with these numbers (as `stat` shows them) can be
/// opened, if the process has a descriptor of it.
pub(crate) fn descriptor_of(pid: u32, device: u64, inode: u64) -> io::Result<Option<PathBuf>> {
    find_descriptor(pid, |_, found| {
        (found.dev(), found.ino()) == (device, inode)
    })
}

pub(super) fn find_descriptor(
    pid: u32,
    is_it: impl Fn(&Path, &Metadata) -> bool,
) -> io::Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).map_err(esrch_to_not_found)?;
    for entry in entries {
        let path = entry?.path();
        if std::fs::metadata(&path).is_ok_and(|found| is_it(&path, &found)) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// [`open(2)`](https://man7.org/linux/man-pages/man2/open.2.html) of what a link such
/// as `/proc/PID/fd/N` leads to, by a description of its own. `None`: it leads to
/// something else than a file.
pub(crate) fn open_link(path: &Path, access: Access) -> io::Result<Option<OwnedFd>> {
    let facts = std::fs::metadata(path).map_err(esrch_to_not_found)?;
    if !facts.is_file() {
        return Ok(None);
    }
    let file = above_standard(|| {
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::ReadWrite)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)?;
        Ok(file.into())
    });
    file.map(Some).map_err(esrch_to_not_found)
}

/// Whether a path is one of the links by which `/proc` shows open files and
/// mappings: `/proc/PID/fd/N`. It leads to the file itself, by whatever name.
pub(crate) fn is_link(path: &Path) -> bool {
    let parts: Vec<_> = path.iter().filter_map(OsStr::to_str).collect();
    matches!(parts[..], ["/", "proc", _, "fd" | "map_files", _]) && path.is_symlink()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn links_lead_to_files_and_to_nothing_else() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let again = open_link(path.as_ref(), Access::ReadOnly).unwrap().unwrap();
        let again = std::fs::File::from(again).metadata().unwrap();
        assert_eq!(again.ino(), file.metadata().unwrap().ino());
        let directory = open_link("/proc/self/cwd".as_ref(), Access::ReadOnly);
        assert!(directory.unwrap().is_none());
        assert!(is_link(path.as_ref()));
        assert!(!is_link("/proc/self/cwd".as_ref()));
        assert!(!is_link("/proc/self/fd/-1".as_ref()));
    }

    #[test]
    fn descriptors_are_found_by_what_they_lead_to() {
        let me = std::process::id();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let facts = file.metadata().unwrap();
        let path = descriptor_of(me, facts.dev(), facts.ino())
            .unwrap()
            .unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().ino(), facts.ino());
        assert!(file.as_raw_fd() >= 0, "it was open until now");
        assert_eq!(descriptor_of(me, u64::MAX, u64::MAX).unwrap(), None);
        let gone = descriptor_of(1 << 29, 0, 0).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
