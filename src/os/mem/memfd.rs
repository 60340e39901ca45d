//! Files without a name that exist only in memory, and seals on their length.
//!
//! Manual pages: [`memfd_create(2)`], [`fcntl(2)`], [`open(2)`].
//!
//! [`memfd_create(2)`]: https://man7.org/linux/man-pages/man2/memfd_create.2.html
//! [`fcntl(2)`]: https://man7.org/linux/man-pages/man2/fcntl.2.html
//! [`open(2)`]: https://man7.org/linux/man-pages/man2/open.2.html

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::Pages;
use crate::os::descriptor::above_standard;
use crate::os::io_error;

/// Creates an empty file that can be sealed and that `exec` closes: `memfd_create(2)`.
///
/// The file's mode permits every user to write. It counts for processes that open the
/// file through `/proc/PID/fd`.
///
/// `/proc/PID/fd` shows `label`, which has at most 249 bytes and no NUL. Several files
/// may have the same label. The length of a file of huge pages must be a multiple of
/// [their size](super::huge_page_size). If the machine has no free ones, mapping the
/// file fails.
pub(crate) fn create(label: &str, pages: Pages) -> io::Result<OwnedFd> {
    let mut flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    if pages == Pages::Huge {
        flags |= MFdFlags::MFD_HUGETLB;
    }
    let never_executable = flags | MFdFlags::from_bits_retain(libc::MFD_NOEXEC_SEAL);
    above_standard(|| {
        match memfd_create(label, never_executable) {
            // Linux before 6.3. For a bad label, the second call fails too.
            Err(Errno::EINVAL) => memfd_create(label, flags),
            other => other,
        }
        .map_err(io_error)
    })
}

/// Fixes the file's length and its seals for ever: `fcntl(2)`, `F_ADD_SEALS`.
/// Afterwards no process can cause a fault in a mapping by shortening the file.
pub(crate) fn seal(file: impl AsFd) -> io::Result<()> {
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(file, FcntlArg::F_ADD_SEALS(seals)).map_err(io_error)?;
    Ok(())
}

/// Returns whether a seal prevents that the file becomes shorter: `fcntl(2)`,
/// `F_GET_SEALS`. Returns false for a file of a kind that has no seals.
pub(crate) fn is_sealed_against_shrinking(file: impl AsFd) -> io::Result<bool> {
    match fcntl(file, FcntlArg::F_GET_SEALS) {
        Ok(seals) => Ok(SealFlag::from_bits_retain(seals).contains(SealFlag::F_SEAL_SHRINK)),
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(io_error(errno)),
    }
}

/// Opens the same file by a new open file description, which has its own locks:
/// `open(2)` of `/proc/self/fd/N`. The kernel checks the file's permissions again.
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
    fn seal_fixes_the_length() {
        let file = file();
        file.set_len(4096).unwrap();
        assert!(!is_sealed_against_shrinking(&file).unwrap());
        seal(&file).unwrap();
        assert!(is_sealed_against_shrinking(&file).unwrap());
        assert!(file.set_len(4095).is_err());
        assert!(file.set_len(4097).is_err());
        file.write_all_at(b"still", 0).unwrap();
        // F_SEAL_SEAL refuses further seals.
        assert_eq!(seal(&file).unwrap_err().raw_os_error(), Some(libc::EPERM));
    }

    #[test]
    fn device_is_not_sealed() {
        let device = File::open("/dev/null").unwrap();
        assert!(!is_sealed_against_shrinking(device).unwrap());
    }

    #[test]
    fn reopened_file_is_the_same_file() {
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
    fn descriptors_are_closed_on_exec() {
        let file = file();
        let again = reopen(&file, Access::ReadOnly).unwrap();
        for fd in [file.as_fd(), again.as_fd()] {
            let flags = fcntl(fd, FcntlArg::F_GETFD).unwrap();
            assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
        }
    }

    #[test]
    fn label_has_249_bytes_and_no_nul() {
        assert!(create(&"x".repeat(249), Pages::Normal).is_ok());
        for label in ["x".repeat(250), "nul\0".to_owned()] {
            let error = create(&label, Pages::Normal).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
    }
}
