//! Links in `/proc` that lead to open files, as `/proc/PID/fd/N`.
//!
//! Manual pages: [`proc_pid_fd(5)`], [`open(2)`].
//!
//! [`proc_pid_fd(5)`]: https://man7.org/linux/man-pages/man5/proc_pid_fd.5.html
//! [`open(2)`]: https://man7.org/linux/man-pages/man2/open.2.html

use std::ffi::OsStr;
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::parse::esrch_to_not_found;
use crate::os::descriptor::above_standard;
use crate::os::mem::Access;

/// Returns the link of a process's descriptor of the file with these numbers, which are
/// those of `stat`. Returns `None` if the process has no such descriptor.
pub(crate) fn descriptor_of(pid: u32, device: u64, inode: u64) -> io::Result<Option<PathBuf>> {
    find_descriptor(pid, |_, found| {
        (found.dev(), found.ino()) == (device, inode)
    })
}

/// Returns the link of the first descriptor that matches. `matches` gets the link and
/// the metadata of the file behind it.
pub(super) fn find_descriptor(
    pid: u32,
    matches: impl Fn(&Path, &Metadata) -> bool,
) -> io::Result<Option<PathBuf>> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).map_err(esrch_to_not_found)?;
    for entry in entries {
        let path = entry?.path();
        if std::fs::metadata(&path).is_ok_and(|found| matches(&path, &found)) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Opens the file behind a link such as `/proc/PID/fd/N`, by a new open file
/// description. Returns `None` if the link does not lead to a regular file.
pub(crate) fn open_link(path: &Path, access: Access) -> io::Result<Option<OwnedFd>> {
    let metadata = std::fs::metadata(path).map_err(esrch_to_not_found)?;
    if !metadata.is_file() {
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

/// Returns whether the path is a link in `/proc/PID/fd` or `/proc/PID/map_files`. Such
/// a link leads to the file itself, even if its name has changed.
pub(crate) fn is_link(path: &Path) -> bool {
    let parts: Vec<_> = path.iter().filter_map(OsStr::to_str).collect();
    matches!(parts[..], ["/", "proc", _, "fd" | "map_files", _]) && path.is_symlink()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn open_link_opens_regular_files_only() {
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
    fn descriptor_is_found_by_device_and_inode() {
        let me = std::process::id();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let metadata = file.metadata().unwrap();
        let path = descriptor_of(me, metadata.dev(), metadata.ino())
            .unwrap()
            .unwrap();
        assert_eq!(std::fs::metadata(path).unwrap().ino(), metadata.ino());
        assert!(file.as_raw_fd() >= 0, "it was open until now");
        assert_eq!(descriptor_of(me, u64::MAX, u64::MAX).unwrap(), None);
        let gone = descriptor_of(1 << 29, 0, 0).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }
}
