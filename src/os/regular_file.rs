//! Files as memory objects: made without a name, published by `linkat`, opened
//! without following links.
//!
//! A POSIX object is such a file in [`SHM_DIRECTORY`]
//! ([`shm_overview(7)`](https://man7.org/linux/man-pages/man7/shm_overview.7.html)).

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, AtFlags, FallocateFlags, OFlag, fallocate, open as open_path, posix_fallocate,
};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::stat::{self, Mode, SFlag};
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, HUGETLBFS_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, fstatfs,
};
use nix::unistd::{self, Gid, Uid, linkat, unlink as unlink_path};

use super::descriptor::above_standard;
use super::{io_error, retry_on_eintr};
use crate::os::mem::Access;

/// Where glibc keeps POSIX objects.
pub(crate) const SHM_DIRECTORY: &str = "/dev/shm";

/// Whether `path` is that of a POSIX object. On some systems [`SHM_DIRECTORY`] is a
/// link (to `/run/shm`), and the kernel shows paths with the link resolved.
pub(crate) fn is_posix_object(path: &Path) -> bool {
    path.parent().is_some_and(|parent| {
        parent == Path::new(SHM_DIRECTORY)
            || std::fs::canonicalize(SHM_DIRECTORY).is_ok_and(|real| parent == real)
    })
}

/// What is known of a file before it is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileStat {
    /// Not a directory, FIFO, socket, device or link.
    pub(crate) is_regular: bool,
    /// The user id of its owner.
    pub(crate) owner: u32,
    /// The id of its group.
    pub(crate) group: u32,
    /// The permission bits, `0o777` at most.
    pub(crate) mode: u32,
    /// In bytes.
    pub(crate) len: u64,
    /// Which file it is: file system and inode.
    pub(crate) identity: (u64, u64),
}

impl From<stat::FileStat> for FileStat {
    fn from(stat: stat::FileStat) -> Self {
        Self {
            is_regular: SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG,
            owner: stat.st_uid,
            group: stat.st_gid,
            mode: stat.st_mode & 0o777,
            len: u64::try_from(stat.st_size).unwrap_or(0),
            identity: (stat.st_dev, stat.st_ino),
        }
    }
}

/// What matters of a file system to a segment in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystem {
    /// It is memory: no boot of the machine outlives another one's files.
    Memory,
    /// It shows files of other file systems, by device numbers of its own.
    Overlay,
    Other,
}

/// [`open(2)`](https://man7.org/linux/man-pages/man2/open.2.html) with
/// `O_TMPFILE`: a file without a name, on the file system of `directory`.
pub(crate) fn open_tmpfile(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    above_standard(|| retry_on_eintr(|| open_path(directory, flags, mode)))
}

/// [`fchown(2)`](https://man7.org/linux/man-pages/man2/fchown.2.html): another
/// owner, another group, or neither.
pub(crate) fn fchown(file: impl AsFd, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
    if owner.is_none() && group.is_none() {
        return Ok(());
    }
    let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
    unistd::fchown(file, owner, group).map_err(io_error)
}

/// [`fchmod(2)`](https://man7.org/linux/man-pages/man2/fchmod.2.html): exactly
/// this mode; the umask is not applied.
pub(crate) fn fchmod(file: impl AsFd, mode: u32) -> io::Result<()> {
    stat::fchmod(file, Mode::from_bits_truncate(mode)).map_err(io_error)
}

/// [`ioctl_fs(2)`](https://man7.org/linux/man-pages/man2/FS_IOC_SETFLAGS.2const.html),
/// `FS_NOCOW_FL`, on btrfs: writes go to where the file's bytes are, so that what is
/// [reserved](reserve) stays reserved. btrfs otherwise writes each page to a new place,
/// and a write into a mapping ends in `SIGBUS` if no place is left. It works only
/// while the file is empty, and not in directories with compression.
pub(crate) fn disable_copy_on_write(file: impl AsFd) -> io::Result<()> {
    /// libc has no name for it.
    const FS_NOCOW_FL: libc::c_int = 0x0080_0000;

    if fstatfs(&file).map_err(io_error)?.filesystem_type() != BTRFS_SUPER_MAGIC {
        return Ok(());
    }
    let file = file.as_fd().as_raw_fd();
    let mut flags: libc::c_int = 0;
    // SAFETY: this request writes one `int`, in spite of its name, to `flags`.
    let rc = unsafe { libc::ioctl(file, libc::FS_IOC_GETFLAGS, &raw mut flags) };
    Errno::result(rc).map_err(io_error)?;
    flags |= FS_NOCOW_FL;
    // SAFETY: this request reads one `int` from `flags`.
    let rc = unsafe { libc::ioctl(file, libc::FS_IOC_SETFLAGS, &raw const flags) };
    Errno::result(rc).map(drop).map_err(io_error)
}

/// [`posix_fallocate(3)`](https://man7.org/linux/man-pages/man3/posix_fallocate.3.html):
/// sizes the file to `len` bytes and reserves every page of it, so that a full
/// file system is an error now and not a `SIGBUS` at the first touch.
///
/// `EFBIG` if it is more than `RLIMIT_FSIZE` allows. Some kernels end the call at any
/// signal and free what it had reserved. So each interruption halves what is asked for
/// at once, and what is reserved stays reserved.
pub(crate) fn reserve(file: impl AsFd, len: NonZeroUsize) -> io::Result<()> {
    let len = file_length(len)?;
    for_each_part(len, |from, len| posix_fallocate(&file, from, len))
}

/// [`fallocate(2)`](https://man7.org/linux/man-pages/man2/fallocate.2.html) of the first
/// `len` bytes, `FALLOC_FL_UNSHARE_RANGE` where the file system knows it: gives the
/// file blocks of its own for those that it lacks (holes) or shares with a copy
/// (reflinks). A write to one of these would need room. The content does not change.
/// `ErrorKind::Unsupported` if the file system can do neither.
pub(crate) fn unshare(file: impl AsFd, len: NonZeroUsize) -> io::Result<()> {
    let len = libc::off_t::try_from(len.get()).map_err(|_| io_error(Errno::EFBIG))?;
    let allocate = |flags| for_each_part(len, |from, len| fallocate(&file, flags, from, len));
    match allocate(FallocateFlags::FALLOC_FL_UNSHARE_RANGE) {
        // EOPNOTSUPP: the file system shares no blocks, or knows no such request.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            allocate(FallocateFlags::empty())
        }
        other => other,
    }
}

/// Calls `f` for parts of `len` bytes, one after the other: all of them at once, and
/// half as much after each interruption by a signal.
fn for_each_part(
    len: libc::off_t,
    mut f: impl FnMut(libc::off_t, libc::off_t) -> nix::Result<()>,
) -> io::Result<()> {
    /// No smaller part is halved: the largest page of any Linux.
    const SMALLEST: libc::off_t = 64 << 10;

    let (mut done, mut at_once) = (0, len);
    while done < len {
        let next = at_once.min(len - done);
        match f(done, next) {
            Ok(()) => done += next,
            Err(Errno::EINTR) => at_once = (next / 2).max(SMALLEST),
            Err(errno) => return Err(io_error(errno)),
        }
    }
    Ok(())
}

/// [`ftruncate(2)`](https://man7.org/linux/man-pages/man2/ftruncate.2.html):
/// sizes the file to `len` bytes, and reserves nothing. `EFBIG` if it is more than
/// `RLIMIT_FSIZE` allows.
pub(crate) fn set_len(file: impl AsFd, len: NonZeroUsize) -> io::Result<()> {
    let len = file_length(len)?;
    retry_on_eintr(|| nix::unistd::ftruncate(&file, len))
}

/// Returns `len` as the system takes it, or `EFBIG` if no file of this process may be
/// so long.
///
/// The kernel would answer `EFBIG` as well, but kill the process by `SIGXFSZ` before.
/// It counts for files in memory, too
/// ([`getrlimit(2)`](https://man7.org/linux/man-pages/man2/getrlimit.2.html)).
fn file_length(len: NonZeroUsize) -> io::Result<libc::off_t> {
    // Asking for the limit can't fail.
    let limit = getrlimit(Resource::RLIMIT_FSIZE).map_or(RLIM_INFINITY, |(soft, _)| soft);
    match libc::off_t::try_from(len.get()) {
        Ok(length) if len.get() as u64 <= limit => Ok(length),
        _ => Err(io_error(Errno::EFBIG)),
    }
}

/// [`linkat(2)`](https://man7.org/linux/man-pages/man2/linkat.2.html): gives
/// the unnamed file its name, at once or not at all.
pub(crate) fn link_at(file: impl AsFd, path: &Path) -> io::Result<()> {
    // By way of /proc, because AT_EMPTY_PATH wants a privilege before Linux 6.10.
    let unnamed = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let by_proc = linkat(
        AT_FDCWD,
        unnamed.as_str(),
        AT_FDCWD,
        path,
        AtFlags::AT_SYMLINK_FOLLOW,
    );
    let linked = match by_proc {
        // There is no /proc; or there is no directory, as is said once more.
        Err(Errno::ENOENT) => linkat(&file, "", AT_FDCWD, path, AtFlags::AT_EMPTY_PATH),
        other => other,
    };
    linked.map_err(io_error)
}

/// [`open(2)`](https://man7.org/linux/man-pages/man2/open.2.html). It follows no
/// link at the end of the path, waits for no FIFO, and the descriptor does not
/// outlive an `exec`. `None` if the path leads to something that can't be opened
/// so: a link, a directory, a socket.
pub(crate) fn open(path: &Path, access: Access) -> io::Result<Option<OwnedFd>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let access = match access {
        Access::ReadWrite => OFlag::O_RDWR,
        Access::ReadOnly => OFlag::O_RDONLY,
    };
    let opened =
        above_standard(|| retry_on_eintr(|| open_path(path, flags | access, Mode::empty())));
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) => match error.raw_os_error() {
            Some(libc::ELOOP | libc::EISDIR | libc::ENXIO) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Whether a call failed because this process, or the system, may open no more files
/// (`EMFILE`, `ENFILE`).
pub(crate) fn is_descriptor_limit(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// [`fstat(2)`](https://man7.org/linux/man-pages/man2/fstat.2.html).
pub(crate) fn fstat(file: impl AsFd) -> io::Result<FileStat> {
    stat::fstat(file).map(FileStat::from).map_err(io_error)
}

/// [`fstatfs(2)`](https://man7.org/linux/man-pages/man2/fstatfs.2.html): the kind of
/// file system that the file is on.
pub(crate) fn file_system(file: impl AsFd) -> io::Result<FileSystem> {
    let kind = fstatfs(file).map_err(io_error)?.filesystem_type();
    Ok(match kind {
        TMPFS_MAGIC | HUGETLBFS_MAGIC => FileSystem::Memory,
        OVERLAYFS_SUPER_MAGIC => FileSystem::Overlay,
        _ => FileSystem::Other,
    })
}

/// [`statx(2)`](https://man7.org/linux/man-pages/man2/statx.2.html), `STATX_BTIME`:
/// when the file was made, in nanoseconds since 1970; 0 if the file system does not
/// say. It never changes, and a copy has another.
pub(crate) fn birth_time(file: impl AsFd) -> io::Result<u64> {
    let file = std::fs::File::from(file.as_fd().try_clone_to_owned()?);
    let born = file.metadata()?.created().ok();
    let since = born.and_then(|born| born.duration_since(SystemTime::UNIX_EPOCH).ok());
    Ok(since.map_or(0, |since| since.as_nanos() as u64))
}

/// [`lstat(2)`](https://man7.org/linux/man-pages/man2/lstat.2.html) of what
/// the path leads to now.
pub(crate) fn lstat(path: &Path) -> io::Result<FileStat> {
    stat::lstat(path).map(FileStat::from).map_err(io_error)
}

/// [`pread(2)`](https://man7.org/linux/man-pages/man2/pread.2.html) of the
/// bytes from `offset` on. Fewer than asked for means that the file ends there.
pub(crate) fn read_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let file = std::fs::File::from(file.as_fd().try_clone_to_owned()?);
    let mut filled = 0;
    while filled < buffer.len() {
        let at = offset.saturating_add(filled as u64);
        match std::os::unix::fs::FileExt::read_at(&file, &mut buffer[filled..], at) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// [`fsync(2)`](https://man7.org/linux/man-pages/man2/fsync.2.html): comes back
/// when content and size are on the file's device.
pub(crate) fn sync(file: impl AsFd) -> io::Result<()> {
    retry_on_eintr(|| nix::unistd::fsync(&file))
}

/// [`unlink(2)`](https://man7.org/linux/man-pages/man2/unlink.2.html): takes the
/// name away. The object lives on until nobody has it open or mapped.
pub(crate) fn unlink(path: &Path) -> io::Result<()> {
    unlink_path(path).map_err(io_error)
}

/// [`getegid(2)`](https://man7.org/linux/man-pages/man2/getegid.2.html).
pub(crate) fn effective_group() -> u32 {
    Gid::effective().as_raw()
}

/// [`geteuid(2)`](https://man7.org/linux/man-pages/man2/geteuid.2.html).
pub(crate) fn effective_user() -> u32 {
    Uid::effective().as_raw()
}
