//! Files that hold segments: created without a name, named by `linkat`, and opened
//! without following links. Where files without a name are not supported, they are
//! created with a temporary name, and renamed.
//!
//! A POSIX object is such a file in [`SHM_DIRECTORY`]: [`shm_overview(7)`].
//!
//! Manual pages: [`open(2)`], [`fchown(2)`], [`fchmod(2)`],
//! [`FS_IOC_SETFLAGS(2const)`], [`fallocate(2)`], [`ftruncate(2)`], [`getrlimit(2)`],
//! [`linkat(2)`], [`renameat2(2)`], [`stat(2)`], [`fstatfs(2)`], [`statx(2)`],
//! [`pread(2)`], [`fsync(2)`], [`unlink(2)`], [`getegid(2)`], [`geteuid(2)`].
//!
//! [`shm_overview(7)`]: https://man7.org/linux/man-pages/man7/shm_overview.7.html
//! [`open(2)`]: https://man7.org/linux/man-pages/man2/open.2.html
//! [`fchown(2)`]: https://man7.org/linux/man-pages/man2/fchown.2.html
//! [`fchmod(2)`]: https://man7.org/linux/man-pages/man2/fchmod.2.html
//! [`FS_IOC_SETFLAGS(2const)`]: https://man7.org/linux/man-pages/man2/FS_IOC_SETFLAGS.2const.html
//! [`fallocate(2)`]: https://man7.org/linux/man-pages/man2/fallocate.2.html
//! [`ftruncate(2)`]: https://man7.org/linux/man-pages/man2/ftruncate.2.html
//! [`getrlimit(2)`]: https://man7.org/linux/man-pages/man2/getrlimit.2.html
//! [`linkat(2)`]: https://man7.org/linux/man-pages/man2/linkat.2.html
//! [`renameat2(2)`]: https://man7.org/linux/man-pages/man2/rename.2.html
//! [`stat(2)`]: https://man7.org/linux/man-pages/man2/stat.2.html
//! [`fstatfs(2)`]: https://man7.org/linux/man-pages/man2/fstatfs.2.html
//! [`statx(2)`]: https://man7.org/linux/man-pages/man2/statx.2.html
//! [`pread(2)`]: https://man7.org/linux/man-pages/man2/pread.2.html
//! [`fsync(2)`]: https://man7.org/linux/man-pages/man2/fsync.2.html
//! [`unlink(2)`]: https://man7.org/linux/man-pages/man2/unlink.2.html
//! [`getegid(2)`]: https://man7.org/linux/man-pages/man2/getegid.2.html
//! [`geteuid(2)`]: https://man7.org/linux/man-pages/man2/geteuid.2.html

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag, fallocate, open as open_path};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use nix::sys::stat::{self, Mode, SFlag};
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, HUGETLBFS_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, fstatfs,
};
use nix::sys::uio::pread;
use nix::unistd::{self, Gid, Uid, linkat, unlink as unlink_path};

use super::descriptor::above_standard;
use super::{io_error, retry_on_eintr};
use crate::os::mem::Access;

/// The directory in which glibc keeps POSIX objects.
pub(crate) const SHM_DIRECTORY: &str = "/dev/shm";

/// Returns whether `path` is the path of a POSIX object. On some systems
/// [`SHM_DIRECTORY`] is a link to `/run/shm`, and the kernel shows the resolved path.
pub(crate) fn is_posix_object(path: &Path) -> bool {
    path.parent().is_some_and(|parent| {
        parent == Path::new(SHM_DIRECTORY)
            || std::fs::canonicalize(SHM_DIRECTORY).is_ok_and(|real| parent == real)
    })
}

/// The metadata of a file that this crate uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FileStat {
    /// Whether it is a regular file.
    pub(crate) is_regular: bool,
    /// The user id of the owner.
    pub(crate) owner: u32,
    /// The group id.
    pub(crate) group: u32,
    /// The permission bits, at most `0o777`.
    pub(crate) mode: u32,
    /// The length in bytes.
    pub(crate) len: u64,
    /// Device and inode number.
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

/// Kinds of file systems that segments have to distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystem {
    /// Files are in memory and end with the boot of the machine.
    Memory,
    /// Files belong to other file systems but have device numbers of this one.
    Overlay,
    /// Files outlive a boot of the machine.
    Other,
}

/// Creates a file without a name on the file system of `directory`: `open(2)`,
/// `O_TMPFILE`.
pub(crate) fn open_tmpfile(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    above_standard(|| retry_on_eintr(|| open_path(directory, flags, mode)))
}

/// Creates an empty file with the path, which must not exist: `open(2)`, `O_EXCL`.
pub(crate) fn create_new(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let flags = flags | OFlag::O_NOFOLLOW;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    above_standard(|| retry_on_eintr(|| open_path(path, flags, mode)))
}

/// Returns whether the file system, the kernel or a sandbox does not support a call or
/// a flag, so that the caller does without. A call without the flag can still fail for
/// the same reason.
pub(crate) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EPERM)
    ) || error.kind() == io::ErrorKind::Unsupported
}

/// Returns whether `open(2)` with `O_TMPFILE` may have failed because such files are
/// not supported. Kernels before Linux 3.11 take the flag for `O_DIRECTORY`, and return
/// `EISDIR` or `ENOENT`.
pub(crate) fn has_no_tmpfile(error: &io::Error) -> bool {
    is_unsupported(error) || matches!(error.raw_os_error(), Some(libc::EISDIR | libc::ENOENT))
}

/// Changes the owner and the group, if given: `fchown(2)`.
pub(crate) fn fchown(file: impl AsFd, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
    if owner.is_none() && group.is_none() {
        return Ok(());
    }
    let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
    unistd::fchown(file, owner, group).map_err(io_error)
}

/// Sets the mode: `fchmod(2)`. The umask does not change it.
pub(crate) fn fchmod(file: impl AsFd, mode: u32) -> io::Result<()> {
    stat::fchmod(file, Mode::from_bits_truncate(mode)).map_err(io_error)
}

/// Makes btrfs overwrite the file's blocks in place: `FS_IOC_SETFLAGS(2const)`,
/// `FS_NOCOW_FL`. Does nothing on other file systems.
///
/// Without this, btrfs writes each page to a new block, although blocks are
/// [reserved](reserve). If no block is free, a write into a mapping raises `SIGBUS`.
/// The flag has an effect only while the file is empty, and not in directories with
/// compression.
pub(crate) fn disable_copy_on_write(file: impl AsFd) -> io::Result<()> {
    /// libc does not define this flag.
    const FS_NOCOW_FL: libc::c_int = 0x0080_0000;

    if fstatfs(&file).map_err(io_error)?.filesystem_type() != BTRFS_SUPER_MAGIC {
        return Ok(());
    }
    let file = file.as_fd().as_raw_fd();
    let mut flags: libc::c_int = 0;
    // SAFETY: in spite of its name, this request writes one `int`, to `flags`.
    let rc = unsafe { libc::ioctl(file, libc::FS_IOC_GETFLAGS, &raw mut flags) };
    Errno::result(rc).map_err(io_error)?;
    flags |= FS_NOCOW_FL;
    // SAFETY: this request reads one `int` from `flags`.
    let rc = unsafe { libc::ioctl(file, libc::FS_IOC_SETFLAGS, &raw const flags) };
    Errno::result(rc).map(drop).map_err(io_error)
}

/// Sets the length of an empty file to `len` bytes and reserves all blocks:
/// `fallocate(2)`. A full file system is then an error of this call, and no `SIGBUS` at
/// the first access.
///
/// Where the file system or the kernel does not support the call, zeros are written.
///
/// The error is `EFBIG` if `RLIMIT_FSIZE` is less. Some kernels end the call at any
/// signal and free the blocks that it had reserved. Therefore each interruption halves
/// the size of the following calls, and the blocks of completed calls stay reserved.
pub(crate) fn reserve(file: impl AsFd, len: NonZeroUsize) -> io::Result<()> {
    let len = file_length(len)?;
    let allocate = |from, len| fallocate(&file, FallocateFlags::empty(), from, len);
    match for_each_part(len, allocate) {
        // EOPNOTSUPP, ENOSYS.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => write_zeros(&file, len),
        other => other,
    }
}

/// Writes `len` zeros at the beginning of a file. That reserves blocks, unless the file
/// system stores zeros as holes.
fn write_zeros(file: impl AsFd, len: libc::off_t) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let file = std::fs::File::from(file.as_fd().try_clone_to_owned()?);
    let len = u64::try_from(len).map_err(|_| io_error(Errno::EFBIG))?;
    for at in (0..len).step_by(ZEROS.len()) {
        let part = usize::try_from(len - at).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
        // Repeats the call after an interruption by a signal.
        file.write_all_at(&ZEROS[..part], at)?;
    }
    Ok(())
}

/// Reserves blocks for holes and for blocks that the file shares with copies
/// (reflinks), in the first `len` bytes: `fallocate(2)`, `FALLOC_FL_UNSHARE_RANGE`.
/// Otherwise a write to these parts would need free blocks.
///
/// On file systems without that flag, the call fills holes only. The content does not
/// change. The error is `ErrorKind::Unsupported` if the file system supports neither.
pub(crate) fn unshare(file: impl AsFd, len: NonZeroUsize) -> io::Result<()> {
    let len = libc::off_t::try_from(len.get()).map_err(|_| io_error(Errno::EFBIG))?;
    let allocate = |flags| for_each_part(len, |from, len| fallocate(&file, flags, from, len));
    match allocate(FallocateFlags::FALLOC_FL_UNSHARE_RANGE) {
        // EOPNOTSUPP: the file system shares no blocks, or does not support the flag.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            allocate(FallocateFlags::empty())
        }
        other => other,
    }
}

/// Calls `f` with offset and length of consecutive parts of `len` bytes. The first part
/// is everything. Each interruption by a signal halves the following parts.
fn for_each_part(
    len: libc::off_t,
    mut f: impl FnMut(libc::off_t, libc::off_t) -> nix::Result<()>,
) -> io::Result<()> {
    /// Parts are not halved below the largest page size of any Linux.
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

/// Sets the length to `len` bytes and reserves no blocks: `ftruncate(2)`. The error is
/// `EFBIG` if `RLIMIT_FSIZE` is less.
pub(crate) fn set_len(file: impl AsFd, len: NonZeroUsize) -> io::Result<()> {
    let len = file_length(len)?;
    retry_on_eintr(|| nix::unistd::ftruncate(&file, len))
}

/// Converts `len`, or returns `EFBIG` if it exceeds the limit for files of this
/// process: `getrlimit(2)`, `RLIMIT_FSIZE`.
///
/// The kernel would also return `EFBIG`, but would send `SIGXFSZ` first, which ends the
/// process. The limit also counts for files in memory.
fn file_length(len: NonZeroUsize) -> io::Result<libc::off_t> {
    // This call does not fail: the resource and the buffer are valid.
    let limit = getrlimit(Resource::RLIMIT_FSIZE).map_or(RLIM_INFINITY, |(soft, _)| soft);
    match libc::off_t::try_from(len.get()) {
        Ok(length) if len.get() as u64 <= limit => Ok(length),
        _ => Err(io_error(Errno::EFBIG)),
    }
}

/// Gives the unnamed file its name in one step: `linkat(2)`.
pub(crate) fn link_at(file: impl AsFd, path: &Path) -> io::Result<()> {
    // The path in /proc is tried first, because AT_EMPTY_PATH needs a privilege before
    // Linux 6.10.
    let unnamed = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let by_proc = linkat(
        AT_FDCWD,
        unnamed.as_str(),
        AT_FDCWD,
        path,
        AtFlags::AT_SYMLINK_FOLLOW,
    );
    let linked = match by_proc {
        // Either /proc is missing, or the directory. In the second case, this call
        // fails in the same way.
        Err(Errno::ENOENT) => linkat(&file, "", AT_FDCWD, path, AtFlags::AT_EMPTY_PATH),
        other => other,
    };
    linked.map_err(io_error)
}

/// Renames a file, unless the new name is taken (`EEXIST`): `renameat2(2)`,
/// `RENAME_NOREPLACE`. The error is `EINVAL` if the file system does not support that.
pub(crate) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    let renamed = from.with_nix_path(|from| {
        to.with_nix_path(|to| {
            // SAFETY: both arguments are C strings that outlive the call.
            let rc = unsafe {
                libc::syscall(
                    libc::SYS_renameat2,
                    libc::AT_FDCWD,
                    from.as_ptr(),
                    libc::AT_FDCWD,
                    to.as_ptr(),
                    libc::RENAME_NOREPLACE,
                )
            };
            Errno::result(rc).map(drop)
        })
    });
    renamed
        .and_then(|inner| inner.and_then(|result| result))
        .map_err(io_error)
}

/// Gives a file a second name: `linkat(2)`. The error is `EEXIST` if that is taken.
pub(crate) fn link(from: &Path, to: &Path) -> io::Result<()> {
    linkat(AT_FDCWD, from, AT_FDCWD, to, AtFlags::empty()).map_err(io_error)
}

/// Opens a file: `open(2)`.
///
/// The call follows no link at the end of the path and waits for no FIFO. `exec` closes
/// the descriptor. The result is `None` for a link or a socket, and for a directory
/// that was to be written.
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

/// Returns whether a call failed because this process or the system has too many open
/// files (`EMFILE`, `ENFILE`).
pub(crate) fn is_descriptor_limit(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// Returns the metadata of an open file: `stat(2)`.
pub(crate) fn fstat(file: impl AsFd) -> io::Result<FileStat> {
    stat::fstat(file).map(FileStat::from).map_err(io_error)
}

/// Returns the kind of the file system that contains the file: `fstatfs(2)`.
pub(crate) fn file_system(file: impl AsFd) -> io::Result<FileSystem> {
    let kind = fstatfs(file).map_err(io_error)?.filesystem_type();
    Ok(match kind {
        TMPFS_MAGIC | HUGETLBFS_MAGIC => FileSystem::Memory,
        OVERLAYFS_SUPER_MAGIC => FileSystem::Overlay,
        _ => FileSystem::Other,
    })
}

/// Returns the time at which the file was created, in nanoseconds since 1970, or 0 if
/// the file system does not record it, or the kernel does not report it: `statx(2)`,
/// `STATX_BTIME`. It never changes, and a copy of the file has another one.
pub(crate) fn birth_time(file: impl AsFd) -> u64 {
    // SAFETY: the struct consists of integers, for which zero is valid.
    let mut facts: libc::statx = unsafe { std::mem::zeroed() };
    // By number, because musl has the function only since 1.2.5.
    // SAFETY: the path is a C string, and `facts` is valid for writes of its type.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_statx,
            file.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_BTIME,
            &raw mut facts,
        )
    };
    if rc != 0 || facts.stx_mask & libc::STATX_BTIME == 0 {
        return 0;
    }
    // The time before 1970 and after 2554 is unknown.
    let seconds = u64::try_from(facts.stx_btime.tv_sec).ok();
    let nanoseconds = seconds.and_then(|seconds| seconds.checked_mul(1_000_000_000));
    let exact = nanoseconds.and_then(|time| time.checked_add(facts.stx_btime.tv_nsec.into()));
    exact.unwrap_or(0)
}

/// Returns the metadata of the file that has the path, which may be a link: `stat(2)`.
pub(crate) fn lstat(path: &Path) -> io::Result<FileStat> {
    stat::lstat(path).map(FileStat::from).map_err(io_error)
}

/// Reads bytes from `offset` on and returns their number: `pread(2)`. The number is
/// less than the length of the buffer only if the file ends there.
pub(crate) fn read_at(file: impl AsFd, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let at = offset.saturating_add(filled as u64);
        let at = libc::off_t::try_from(at).map_err(io::Error::other)?;
        match retry_on_eintr(|| pread(&file, &mut buffer[filled..], at))? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Waits until content and length are on the file's device: `fsync(2)`.
pub(crate) fn sync(file: impl AsFd) -> io::Result<()> {
    retry_on_eintr(|| nix::unistd::fsync(&file))
}

/// Removes the name: `unlink(2)`. The file exists until no process has it open or
/// mapped.
pub(crate) fn unlink(path: &Path) -> io::Result<()> {
    unlink_path(path).map_err(io_error)
}

/// Returns the effective group id: `getegid(2)`.
pub(crate) fn effective_group() -> u32 {
    Gid::effective().as_raw()
}

/// Returns the effective user id: `geteuid(2)`.
pub(crate) fn effective_user() -> u32 {
    Uid::effective().as_raw()
}
