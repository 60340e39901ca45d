//! POSIX shared memory objects, and the unnamed files they start as.
//!
//! glibc keeps the objects of [`shm_overview(7)`] as files of `/dev/shm`. An
//! object is built here as an unnamed file of that file system (`O_TMPFILE`)
//! and gets its name by one `linkat` when it is complete, so no name ever
//! leads to half an object, and the file of a creator that dies just vanishes.
//!
//! [`shm_overview(7)`]: https://man7.org/linux/man-pages/man7/shm_overview.7.html

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open as open_path, posix_fallocate};
use nix::sys::mman::{shm_open, shm_unlink};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, lstat};
use nix::unistd::{Uid, linkat};

use super::{io_error, retry_on_eintr};

const DIRECTORY: &str = "/dev/shm";

/// What is known of a file before it is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Not a directory, FIFO, socket, device or link.
    pub(crate) is_regular: bool,
    /// The user id of its owner.
    pub(crate) owner: u32,
    /// The permission bits, `0o777` at most.
    pub(crate) mode: u32,
    /// In bytes.
    pub(crate) len: u64,
    /// Which file it is: file system and inode.
    pub(crate) identity: (u64, u64),
}

impl From<FileStat> for Facts {
    fn from(stat: FileStat) -> Self {
        Self {
            is_regular: SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG,
            owner: stat.st_uid,
            mode: stat.st_mode & 0o777,
            len: u64::try_from(stat.st_size).unwrap_or(0),
            identity: (stat.st_dev, stat.st_ino),
        }
    }
}

/// [`open(2)`](https://man7.org/linux/man-pages/man2/open.2.html) with
/// `O_TMPFILE`: a file without a name. `mode` is exact; the umask is not applied.
pub(crate) fn create_unnamed(mode: u32) -> io::Result<OwnedFd> {
    let mode = Mode::from_bits_truncate(mode);
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let file = retry_on_eintr(|| open_path(DIRECTORY, flags, mode))?;
    fchmod(&file, mode).map_err(io_error)?;
    Ok(file)
}

/// [`posix_fallocate(3)`](https://man7.org/linux/man-pages/man3/posix_fallocate.3.html):
/// sizes the file to `len` bytes and reserves every page of it, so that a full
/// file system is an error now and not a `SIGBUS` at the first touch.
pub(crate) fn reserve(file: impl AsFd, len: NonZeroUsize) -> io::Result<()> {
    let len =
        libc::off_t::try_from(len.get()).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    retry_on_eintr(|| posix_fallocate(&file, 0, len))
}

/// [`linkat(2)`](https://man7.org/linux/man-pages/man2/linkat.2.html): gives
/// the unnamed file its name, at once or not at all. `name` has a leading slash.
pub(crate) fn publish(file: impl AsFd, name: &str) -> io::Result<()> {
    // By way of /proc, because AT_EMPTY_PATH wants a privilege.
    let unnamed = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let named = format!("{DIRECTORY}{name}");
    linkat(
        AT_FDCWD,
        unnamed.as_str(),
        AT_FDCWD,
        named.as_str(),
        AtFlags::AT_SYMLINK_FOLLOW,
    )
    .map_err(io_error)
}

/// [`shm_open(3)`](https://man7.org/linux/man-pages/man3/shm_open.3.html) for
/// reading and writing. It follows no link, waits for no FIFO, and the
/// descriptor does not outlive an `exec`. `None` if the name leads to something
/// that can't be opened so: a link, a directory, a socket.
pub(crate) fn open(name: &str) -> io::Result<Option<OwnedFd>> {
    let flags =
        OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    match retry_on_eintr(|| shm_open(name, flags, Mode::empty())) {
        Ok(file) => Ok(Some(file)),
        Err(error) => match error.raw_os_error() {
            // EINVAL is what glibc makes of EISDIR.
            Some(libc::ELOOP | libc::EISDIR | libc::EINVAL | libc::ENXIO) => Ok(None),
            _ => Err(error),
        },
    }
}

/// [`fstat(2)`](https://man7.org/linux/man-pages/man2/fstat.2.html).
pub(crate) fn facts(file: impl AsFd) -> io::Result<Facts> {
    fstat(file).map(Facts::from).map_err(io_error)
}

/// [`lstat(2)`](https://man7.org/linux/man-pages/man2/lstat.2.html) of what
/// the name leads to now.
pub(crate) fn facts_of_name(name: &str) -> io::Result<Facts> {
    let path = format!("{DIRECTORY}{name}");
    lstat(path.as_str()).map(Facts::from).map_err(io_error)
}

/// [`pread(2)`](https://man7.org/linux/man-pages/man2/pread.2.html) of the
/// file's first bytes. Fewer than asked for means that the file ends there.
pub(crate) fn read_start(file: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    let file = std::fs::File::from(file.try_clone()?);
    let mut filled = 0;
    while filled < buffer.len() {
        match std::os::unix::fs::FileExt::read_at(&file, &mut buffer[filled..], filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// [`shm_unlink(3)`](https://man7.org/linux/man-pages/man3/shm_unlink.3.html):
/// takes the name away. The object lives on until the last mapping goes.
pub(crate) fn unlink(name: &str) -> io::Result<()> {
    shm_unlink(name).map_err(io_error)
}

/// [`geteuid(2)`](https://man7.org/linux/man-pages/man2/geteuid.2.html).
pub(crate) fn effective_user() -> u32 {
    Uid::effective().as_raw()
}
