//! System V shared memory: segments that the kernel keeps under a number.
//!
//! Programs agree on a *key*. The kernel gives a new *id* to each segment. A segment
//! exists until a process removes it. Removal frees the key at once, and the memory at
//! the last detachment.
//!
//! Manual pages: [`sysvipc(7)`], [`ftok(3)`], [`shmget(2)`], [`shmctl(2)`],
//! [`shmat(2)`].
//!
//! [`sysvipc(7)`]: https://man7.org/linux/man-pages/man7/sysvipc.7.html
//! [`ftok(3)`]: https://man7.org/linux/man-pages/man3/ftok.3.html
//! [`shmget(2)`]: https://man7.org/linux/man-pages/man2/shmget.2.html
//! [`shmctl(2)`]: https://man7.org/linux/man-pages/man2/shmctl.2.html
//! [`shmat(2)`]: https://man7.org/linux/man-pages/man2/shmop.2.html

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr::{self, NonNull};

use nix::errno::Errno;

use super::{Access, Mapping, Pages};
use crate::os::io_error;

/// The bit of a segment's mode that says that it was removed. libc does not define it.
pub(in crate::os) const SHM_DEST: u32 = 0o1000;
/// The bit of a segment's mode that says that its pages are locked in memory. libc does
/// not define it.
pub(in crate::os) const SHM_LOCKED: u32 = 0o2000;
/// The permission bits of a segment's mode.
pub(in crate::os) const PERMISSIONS: u32 = 0o777;

/// The number of a segment. The kernel does not soon use it again after a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(pub(crate) i32);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The state of a segment that the kernel reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// 0 if the segment has no key, because it is private or removed.
    pub(crate) key: i32,
    /// User id of the owner.
    pub(crate) owner: u32,
    /// Group id of the owner.
    pub(crate) group: u32,
    /// User id of the creator, which always keeps the rights of the owner.
    pub(crate) creator: u32,
    /// Group id of the creator.
    pub(crate) creator_group: u32,
    /// The permission bits, at most `0o777`.
    pub(crate) mode: u32,
    /// Whether the kernel keeps its pages in memory.
    pub(crate) is_locked: bool,
    /// Whether it has been removed (`SHM_DEST`) and exists until its last detachment.
    pub(crate) is_marked_for_removal: bool,
    /// The length in bytes that the creator asked for.
    pub(crate) len: u64,
    /// The number of attachments.
    pub(crate) attached: u64,
    /// Process id of the creator, 0 if it has none in this process's pid namespace.
    pub(crate) creator_pid: i32,
    /// Process id of the last process that attached or detached, 0 if there was none.
    pub(crate) last_pid: i32,
    /// Time of the last attachment in seconds since 1970, 0 if there was none.
    pub(crate) attach_time: i64,
    /// Time of the last detachment in seconds since 1970, 0 if there was none.
    pub(crate) detach_time: i64,
    /// Time of the creation or of the last change of permissions.
    pub(crate) change_time: i64,
}

/// Computes the key that `ftok(3)` returns in C programs for this file and number.
/// Different files may have the same key.
///
/// This function does not call `ftok`, because its error, −1, is also a key.
pub(crate) fn ftok(path: &Path, project: u8) -> io::Result<i32> {
    let file = std::fs::metadata(path)?;
    let [device, ..] = file.dev().to_le_bytes();
    let [inode_low, inode_high, ..] = file.ino().to_le_bytes();
    Ok(i32::from_le_bytes([inode_low, inode_high, device, project]))
}

/// Creates a segment of zeros: `shmget(2)`, `IPC_CREAT | IPC_EXCL`. The error is
/// `EEXIST` if a segment has the key, and `EINVAL` for key 0.
///
/// The umask does not change `mode`. The call reserves all huge pages that the segment
/// needs. If too few are free, the error is `ENOMEM`. If the process may not use them,
/// it is `EPERM`.
pub(crate) fn create(key: i32, len: NonZeroUsize, mode: u32, pages: Pages) -> io::Result<Id> {
    if key == libc::IPC_PRIVATE {
        return Err(io_error(Errno::EINVAL));
    }
    new(key, len, mode, pages)
}

/// Creates a segment without a key: `shmget(2)`, `IPC_PRIVATE`. Processes that know the
/// id can attach it. Otherwise like [`create`].
pub(crate) fn create_private(len: NonZeroUsize, mode: u32, pages: Pages) -> io::Result<Id> {
    new(libc::IPC_PRIVATE, len, mode, pages)
}

fn new(key: i32, len: NonZeroUsize, mode: u32, pages: Pages) -> io::Result<Id> {
    let permissions = (mode & PERMISSIONS) as libc::c_int;
    let huge = match pages {
        Pages::Normal => 0,
        Pages::Huge => libc::SHM_HUGETLB,
    };
    get(
        key,
        len.get(),
        permissions | huge | libc::IPC_CREAT | libc::IPC_EXCL,
    )
}

/// Returns the segment that has the key: `shmget(2)`. The error is `ENOENT` if there is
/// none.
pub(crate) fn find(key: i32) -> io::Result<Id> {
    if key == libc::IPC_PRIVATE {
        return Err(io_error(Errno::ENOENT));
    }
    get(key, 0, 0)
}

fn get(key: i32, len: usize, flags: libc::c_int) -> io::Result<Id> {
    // SAFETY: the call takes and returns numbers only.
    let id = unsafe { libc::shmget(key, len, flags) };
    Errno::result(id).map(Id).map_err(io_error)
}

/// Returns the state of a segment that this process may read: `shmctl(2)`, `IPC_STAT`.
pub(crate) fn status(id: Id) -> io::Result<Status> {
    control_with(id, libc::IPC_STAT, &mut blank()).map(|seg| Status {
        key: key_of(&seg.shm_perm),
        owner: seg.shm_perm.uid,
        group: seg.shm_perm.gid,
        creator: seg.shm_perm.cuid,
        creator_group: seg.shm_perm.cgid,
        mode: mode_of(&seg.shm_perm) & PERMISSIONS,
        is_locked: mode_of(&seg.shm_perm) & SHM_LOCKED != 0,
        is_marked_for_removal: mode_of(&seg.shm_perm) & SHM_DEST != 0,
        len: seg.shm_segsz as u64,
        attached: seg.shm_nattch,
        creator_pid: seg.shm_cpid,
        last_pid: seg.shm_lpid,
        attach_time: seg.shm_atime,
        detach_time: seg.shm_dtime,
        change_time: seg.shm_ctime,
    })
}

#[allow(clippy::useless_conversion, reason = "the type depends on the libc")]
fn mode_of(permissions: &libc::ipc_perm) -> u32 {
    permissions.mode.into()
}

/// Returns the key. It is the first field, whose name depends on the libc.
fn key_of(permissions: &libc::ipc_perm) -> libc::key_t {
    // SAFETY: the struct begins with a `key_t`, in the kernel's and in every libc's
    // definition for 64-bit machines.
    unsafe { ptr::from_ref(permissions).cast::<libc::key_t>().read() }
}

/// Returns whether a call with an [`Id`] failed because the segment is gone. `EINVAL`
/// has no other cause in the calls of this module, which ask again if a sandbox may
/// have returned it.
pub(crate) fn is_removed_error(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIDRM))
}

/// Sets the permission bits and, if given, the owner and the group: `shmctl(2)`,
/// `IPC_SET`. The kernel permits this to the owner, the creator and root.
///
/// The call reads the current values first and writes them back. A change that another
/// process makes in between is lost.
pub(crate) fn set_permissions(
    id: Id,
    owner: Option<u32>,
    group: Option<u32>,
    mode: u32,
) -> io::Result<()> {
    let mut segment = control_with(id, libc::IPC_STAT, &mut blank())?;
    let permissions = &mut segment.shm_perm;
    permissions.uid = owner.unwrap_or(permissions.uid);
    permissions.gid = group.unwrap_or(permissions.gid);
    permissions.mode = (mode & PERMISSIONS) as _; // its type differs by architecture
    control_with(id, libc::IPC_SET, &mut segment)?;
    Ok(())
}

/// Removes a segment and frees its key: `shmctl(2)`, `IPC_RMID`. The memory exists
/// until the last detachment. Until then Linux permits further attachments by the id.
pub(crate) fn remove(id: Id) -> io::Result<()> {
    control(id, libc::IPC_RMID)
}

/// Keeps pages of the segment out of swap once they are in memory: `shmctl(2)`,
/// `SHM_LOCK`. The call brings no page into memory.
pub(crate) fn lock_in_memory(id: Id) -> io::Result<()> {
    control(id, libc::SHM_LOCK)
}

fn control(id: Id, command: libc::c_int) -> io::Result<()> {
    // SAFETY: these commands use no buffer.
    let rc = unsafe { libc::shmctl(id.0, command, std::ptr::null_mut()) };
    Errno::result(rc).map(drop).map_err(io_error)
}

fn control_with(
    id: Id,
    command: libc::c_int,
    segment: &mut libc::shmid_ds,
) -> io::Result<libc::shmid_ds> {
    // SAFETY: IPC_STAT writes and IPC_SET reads one `shmid_ds`, which `segment` is.
    let rc = unsafe { libc::shmctl(id.0, command, segment) };
    match Errno::result(rc) {
        // `max_len` fails only if a sandbox refuses the call.
        Err(Errno::EINVAL) if max_len().is_none() => Err(refused("shmctl", Errno::EINVAL)),
        Err(errno @ (Errno::ENOSYS | Errno::EPERM)) if command == libc::IPC_STAT => {
            Err(refused("shmctl", errno))
        }
        result => result.map(|_| *segment).map_err(io_error),
    }
}

/// Returns an error that names the call, for callers that name another one. It is no
/// [`is_removed_error`].
fn refused(call: &str, errno: Errno) -> io::Error {
    let text = format!("{call}(2) is refused: {}", errno.desc());
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// Returns the largest length of a segment (`SHMMAX`): `shmctl(2)`, `IPC_INFO`. Returns
/// `None` if the kernel does not report it.
pub(crate) fn max_len() -> Option<u64> {
    /// `struct shminfo`, which libc does not define. Its words are `unsigned long`.
    type Info = [libc::c_ulong; 9];
    let mut info: Info = [0; 9];
    // SAFETY: `IPC_INFO` writes a `struct shminfo`. The id does not matter.
    let rc = unsafe { libc::shmctl(0, libc::IPC_INFO, info.as_mut_ptr().cast()) };
    (rc >= 0).then_some(info[0])
}

fn blank() -> libc::shmid_ds {
    // SAFETY: a `shmid_ds` consists of integers, for which zero is valid.
    unsafe { std::mem::zeroed() }
}

/// Maps the whole segment: `shmat(2)`. The mapping has the length that the creator
/// asked for. Forked children are attached as well.
///
/// `drop` detaches by `shmdt`, because only the kernel knows the full length of a
/// segment of huge pages.
pub(crate) fn attach(id: Id, access: Access) -> io::Result<Mapping> {
    let flags = match access {
        Access::ReadWrite => 0,
        Access::ReadOnly => libc::SHM_RDONLY,
    };
    // SAFETY: without an address, the kernel chooses a free range and replaces no
    // mapping.
    let base = unsafe { libc::shmat(id.0, std::ptr::null(), flags) };
    let base = Errno::result(base).map_err(|errno| match errno {
        // The segment is there, so a sandbox has refused the call.
        Errno::EINVAL if status(id).is_ok() => refused("shmat", errno),
        errno => io_error(errno),
    })?;
    // The attachment keeps the segment, and its length never changes.
    let len = status(id).and_then(|segment| {
        usize::try_from(segment.len)
            .ok()
            .and_then(NonZeroUsize::new)
            .ok_or_else(|| io_error(Errno::EINVAL))
    });
    let base = NonNull::new(base.cast()).ok_or_else(|| io_error(Errno::EFAULT))?;
    match len {
        // SAFETY:
        // * `shmat` has just attached the segment there, for this access.
        // * `len` is the length that the kernel reports.
        // * No other code knows the address.
        Ok(len) => Ok(unsafe { Mapping::of_attachment(base, len, access) }),
        Err(error) => {
            // SAFETY: the segment is attached there, and no other code knows the
            // address.
            unsafe { libc::shmdt(base.as_ptr().cast()) };
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: NonZeroUsize = NonZeroUsize::new(5000).unwrap();

    /// A segment that `drop` removes.
    struct Temporary(Id);

    impl Temporary {
        fn new() -> Self {
            Self(create_private(LEN, 0o600, Pages::Normal).unwrap())
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = remove(self.0);
        }
    }

    fn errno<T>(result: io::Result<T>) -> Option<i32> {
        result.err().and_then(|error| error.raw_os_error())
    }

    fn first_byte(mapping: &Mapping) -> *mut u8 {
        mapping.base().as_ptr()
    }

    #[test]
    fn smoke() {
        let segment = Temporary::new();
        let writer = attach(segment.0, Access::ReadWrite).unwrap();
        let reader = attach(segment.0, Access::ReadOnly).unwrap();
        assert_eq!((writer.len(), reader.len()), (LEN.get(), LEN.get()));
        assert_eq!(reader.access(), Access::ReadOnly);
        assert_eq!(status(segment.0).unwrap().attached, 2);
        // SAFETY: the byte is mapped and writable, and only this thread uses it.
        unsafe { first_byte(&writer).write_volatile(7) };
        // SAFETY: the byte is mapped and readable, and only this thread uses it.
        let seen = unsafe { first_byte(&reader).read_volatile() };
        assert_eq!(seen, 7);
        drop((writer, reader));
        assert_eq!(status(segment.0).unwrap().attached, 0);
    }

    #[test]
    fn key_belongs_to_one_segment() {
        let key = 0x5300_0000 | i32::try_from(std::process::id()).unwrap();
        assert_eq!(errno(find(key)), Some(libc::ENOENT));
        let segment = Temporary(create(key, LEN, 0o640, Pages::Normal).unwrap());
        assert_eq!(find(key).unwrap(), segment.0);
        let second = create(key, LEN, 0o600, Pages::Normal);
        assert_eq!(errno(second), Some(libc::EEXIST));
        let found = status(segment.0).unwrap();
        assert_eq!((found.key, found.mode), (key, 0o640));
    }

    #[test]
    fn key_0_is_refused() {
        assert_eq!(errno(find(0)), Some(libc::ENOENT));
        let keyless = create(0, LEN, 0o600, Pages::Normal);
        assert_eq!(errno(keyless), Some(libc::EINVAL));
    }

    #[test]
    fn removed_segment_exists_until_last_detach() {
        let segment = Temporary::new();
        let mapping = attach(segment.0, Access::ReadWrite).unwrap();
        remove(segment.0).unwrap();
        let found = status(segment.0).unwrap();
        assert!(found.is_marked_for_removal);
        assert_eq!((found.key, found.attached), (0, 1));
        drop(mapping);
        assert!(is_removed_error(&status(segment.0).unwrap_err()));
        assert!(is_removed_error(&remove(segment.0).unwrap_err()));
        assert!(is_removed_error(
            &attach(segment.0, Access::ReadOnly).unwrap_err()
        ));
    }

    #[test]
    fn status_has_processes_and_times() {
        let segment = Temporary::new();
        let me = i32::try_from(std::process::id()).unwrap();
        let fresh = status(segment.0).unwrap();
        assert_eq!(fresh.len, LEN.get() as u64);
        assert_eq!((fresh.creator_pid, fresh.last_pid), (me, 0));
        assert_eq!(
            (fresh.owner, fresh.group),
            (fresh.creator, fresh.creator_group)
        );
        assert_eq!((fresh.attach_time, fresh.detach_time), (0, 0));
        assert!(fresh.change_time > 0);
        drop(attach(segment.0, Access::ReadWrite).unwrap());
        let used = status(segment.0).unwrap();
        assert_eq!(used.last_pid, me);
        assert!(used.attach_time > 0 && used.detach_time >= used.attach_time);
    }

    #[test]
    fn set_permissions_changes_only_the_mode() {
        let segment = Temporary::new();
        let before = status(segment.0).unwrap();
        set_permissions(segment.0, None, None, 0o640).unwrap();
        let after = status(segment.0).unwrap();
        let expected = Status {
            mode: 0o640,
            change_time: after.change_time,
            ..before
        };
        assert_eq!(after, expected);
        // Every owner may give the segment to itself.
        set_permissions(segment.0, Some(before.owner), Some(before.group), 0o600).unwrap();
        assert_eq!(status(segment.0).unwrap().mode, 0o600);
    }

    #[test]
    fn pages_are_locked_and_unlocked() {
        let segment = Temporary::new();
        match lock_in_memory(segment.0) {
            // This user may lock nothing.
            Err(error) => assert!(matches!(
                error.raw_os_error(),
                Some(libc::EPERM | libc::ENOMEM)
            )),
            Ok(()) => {
                assert!(status(segment.0).unwrap().is_locked);
                control(segment.0, libc::SHM_UNLOCK).unwrap();
            }
        }
        assert!(!status(segment.0).unwrap().is_locked);
    }

    #[test]
    fn huge_pages_are_detached_completely() {
        // Fails if the administrator has reserved none.
        let Ok(id) = create_private(LEN, 0o600, Pages::Huge) else {
            return;
        };
        let segment = Temporary(id);
        let mapping = attach(segment.0, Access::ReadWrite).unwrap();
        assert_eq!(mapping.len(), LEN.get());
        drop(mapping);
        assert_eq!(status(segment.0).unwrap().attached, 0);
    }

    #[test]
    fn ftok_equals_that_of_libc() {
        for path in ["/", "/proc/self/exe", "/dev/null"] {
            for project in [0, 1, b'S', 0xff] {
                let c_path = std::ffi::CString::new(path).unwrap();
                // SAFETY: the path is a C string, and it exists during the call.
                let expected = unsafe { libc::ftok(c_path.as_ptr(), project.into()) };
                assert_eq!(ftok(Path::new(path), project).unwrap(), expected);
            }
        }
        let missing = ftok(Path::new("/proc/self/no-such-file"), 1);
        assert_eq!(errno(missing), Some(libc::ENOENT));
    }
}
