//! Files that exist only in memory and have no name, and seals on their size.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::Pages;
use crate::os::descriptor::above_standard;
use crate::os::io_error;

/// [`memfd_create(2)`](https://man7.org/linux/man-pages/man2/memfd_create.2.html):
/// an empty file that can be sealed, closed on `exec`. The kernel gives it a mode that
/// lets everybody write, which matters to those who reach it by `/proc/PID/fd`.
///
/// `label` is what `/proc/PID/fd` shows: at most 249 bytes, no NUL; two files
/// may have the same. The length of a file of huge pages must be a multiple of
/// [their size](super::huge_page_size); whether the machine has any to
/// give shows when it is mapped.
pub(crate) fn create(label: &str, pages: Pages) -> io::Result<OwnedFd> {
    let mut flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    if pages == Pages::Huge {
        flags |= MFdFlags::MFD_HUGETLB;
    }
    let never_executable = flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    above_standard(|| {
        match memfd_create(label, never_executable) {
            // Linux before 6.3, or a label that the second call refuses too.
            Err(Errno::EINVAL) => memfd_create(label, flags),
            other => other,
        }
        .map_err(io_error)
    })
}

/// [`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl.2.html),
/// `F_ADD_SEALS`: fixes the file's length, and the seals, for good. After this
/// nobody can make a mapping of it fault by shortening the file.
pub(crate) fn seal(file: impl AsFd) -> io::Result<()> {
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(file, FcntlArg::F_ADD_SEALS(seals)).map_err(io_error)?;
    Ok(())
}

/// [`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl.2.html),
/// `F_GET_SEALS`: whether nobody can shorten the file any more. False for a
/// file of a kind that has no seals.
pub(crate) fn is_sealed_against_shrinking(file: impl AsFd) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_GET_SEALS) {
        Ok(seals) => Ok(SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SHRINK)),
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(io_error(errno)),
    }
}

/// For tests: [`open(2)`](https://man7.org/linux/man-pages/man2/open.2.html) of
/// `/proc/self/fd/N`: the same file by a new open file description, with locks
/// of its own. The file's permissions are checked anew.
#[cfg(test)]
pub(crate) fn reopen(file: impl AsFd, access: super::Access) -> io::Result<OwnedFd> {
    use super::Access;
    use nix::fcntl::{OFlag, open};
    use nix::sys::stat::Mode;
    use std::os::fd::AsRawFd;

    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let flags = OFlag::O_CLOEXEC
        | match access {
            Access::ReadWrite => OFlag::O_RDWR,
            Access::ReadOnly => OFlag::O_RDONLY,
        };
    crate::os::retry_on_eintr(|| open(path.as_str(), flags, Mode::empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::mem::Access;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    fn file() -> File {
        create("shm-sync-memfd-test", Pages::Normal).unwrap().into()
    }

    #[test]
    fn smoke() {
        let file = file();
        file.set_len(4096).unwrap();
        file.write_all_at(b"here", 4092).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 4096);
    }

    #[test]
    fn a_seal_fixes_the_length() {
        let file = file();
        file.set_len(4096).unwrap();
        assert!(!is_sealed_against_shrinking(&file).unwrap());
        seal(&file).unwrap();
        assert!(is_sealed_against_shrinking(&file).unwrap());
        assert!(file.set_len(4095).is_err());
        assert!(file.set_len(4097).is_err());
        file.write_all_at(b"still", 0).unwrap();
        // The seals are the last ones.
        assert_eq!(seal(&file).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn what_has_no_seals_is_not_sealed() {
        let device = File::open("/dev/null").unwrap();
        assert!(!is_sealed_against_shrinking(device).unwrap());
    }

    #[test]
    fn a_reopened_file_is_the_same_file() {
        let file = file();
        let writer = File::from(reopen(&file, Access::ReadWrite).unwrap());
        let reader = File::from(reopen(&file, Access::ReadOnly).unwrap());
        writer.write_all_at(b"word", 0).unwrap();
        let mut word = [0; 4];
        reader.read_exact_at(&mut word, 0).unwrap();
        assert_eq!(&word, b"word");
        assert!(reader.write_all_at(b"none", 0).is_err());
    }

    #[test]
    fn descriptors_do_not_outlive_exec() {
        let file = file();
        let again = reopen(&file, Access::ReadOnly).unwrap();
        for fd in [file.as_fd(), again.as_fd()] {
            let flags = fcntl(fd, FcntlArg::F_GETFD).unwrap();
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
    }

    #[test]
    fn a_label_has_its_limits() {
        assert!(create(&"x".repeat(249), Pages::Normal).is_ok());
        for label in ["x".repeat(250), "nul\0".to_owned()] {
            let error = create(&label, Pages::Normal).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
    }
}
