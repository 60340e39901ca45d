//! System V shared memory: segments that live in the kernel under a number.
//!
//! [`sysvipc(7)`]: a *key* is what programs agree on, an *id* is what the kernel
//! gives out for one life of a segment. A segment outlives its users until
//! somebody removes it; removed, it loses its key at once and its memory with
//! the last detachment.
//!
//! [`sysvipc(7)`]: https://man7.org/linux/man-pages/man7/sysvipc.7.html

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr::NonNull;

use nix::errno::Errno;

use super::{Access, Mapping, Pages};
use crate::os::io_error;

/// Bits of a segment's mode beside the permissions. libc has no names for them.
pub(in crate::os) const SHM_DEST: u32 = 0o1000;
pub(in crate::os) const SHM_LOCKED: u32 = 0o2000;
pub(in crate::os) const PERMISSIONS: u32 = 0o777;

/// What the kernel calls a segment; not used again soon after its removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(pub(crate) i32);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the kernel knows of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// 0 if it has none: private, or removed.
    pub(crate) key: i32,
    /// User id of the owner.
    pub(crate) owner: u32,
    /// Group id of the owner.
    pub(crate) group: u32,
    /// User id of the creator, who keeps the owner's rights for good.
    pub(crate) creator: u32,
    /// Group id of the creator.
    pub(crate) creator_group: u32,
    /// The permission bits, `0o777` at most.
    pub(crate) mode: u32,
    /// Whether its pages never go to swap.
    pub(crate) is_locked: bool,
    /// Whether it has been removed and waits for its last detachment.
    pub(crate) is_marked_for_removal: bool,
    /// In bytes, as the creator asked.
    pub(crate) len: u64,
    /// How many attachments there are now.
    pub(crate) attached: u64,
    /// Process id of the creator, 0 if it has none in our namespace.
    pub(crate) creator_pid: i32,
    /// Process id of who attached or detached last; 0 if nobody yet.
    pub(crate) last_pid: i32,
    /// When it was last attached, in seconds of Unix time; 0: never.
    pub(crate) attach_time: i64,
    /// When it was last detached; 0: never.
    pub(crate) detach_time: i64,
    /// When it was made or its permissions last changed.
    pub(crate) change_time: i64,
}

/// A key made of a file and a number, as
/// [`ftok(3)`](https://man7.org/linux/man-pages/man3/ftok.3.html) makes it:
/// C programs arrive at the same one. Different files may share a key.
///
/// Computed here because −1, the failure of the C function, is also a key.
pub(crate) fn ftok(path: &Path, project: u8) -> io::Result<i32> {
    let file = std::fs::metadata(path)?;
    let [device, ..] = file.dev().to_le_bytes();
    let [inode_low, inode_high, ..] = file.ino().to_le_bytes();
    Ok(i32::from_le_bytes([inode_low, inode_high, device, project]))
}

/// [`shmget(2)`](https://man7.org/linux/man-pages/man2/shmget.2.html) with
/// `IPC_CREAT | IPC_EXCL`: a new segment of zeros under a key that is free
/// (`EEXIST` if it isn't). Key 0 is nobody's (`EINVAL`).
///
/// `mode` is exact; the umask is not applied. All huge pages that it needs are
/// set aside now (`ENOMEM`), or none (`EPERM` without the right to them).
pub(crate) fn create(key: i32, len: NonZeroUsize, mode: u32, pages: Pages) -> io::Result<Id> {
    if key == libc::IPC_PRIVATE {
        return Err(io_error(Errno::EINVAL));
    }
    new(key, len, mode, pages)
}

/// [`shmget(2)`](https://man7.org/linux/man-pages/man2/shmget.2.html) with
/// `IPC_PRIVATE`: as [`create`], without a key. Who is told the id can attach.
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

/// [`shmget(2)`](https://man7.org/linux/man-pages/man2/shmget.2.html): the
/// segment that has the key now (`ENOENT` if none has).
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

/// [`shmctl(2)`](https://man7.org/linux/man-pages/man2/shmctl.2.html),
/// `IPC_STAT`. Needs the right to read.
pub(crate) fn status(id: Id) -> io::Result<Status> {
    control_with(id, libc::IPC_STAT, &mut blank()).map(|seg| Status {
        key: seg.shm_perm.__key,
        owner: seg.shm_perm.uid,
        group: seg.shm_perm.gid,
        creator: seg.shm_perm.cuid,
        creator_group: seg.shm_perm.cgid,
        mode: u32::from(seg.shm_perm.mode) & PERMISSIONS,
        is_locked: u32::from(seg.shm_perm.mode) & SHM_LOCKED != 0,
        is_marked_for_removal: u32::from(seg.shm_perm.mode) & SHM_DEST != 0,
        len: seg.shm_segsz as u64,
        attached: seg.shm_nattch,
        creator_pid: seg.shm_cpid,
        last_pid: seg.shm_lpid,
        attach_time: seg.shm_atime,
        detach_time: seg.shm_dtime,
        change_time: seg.shm_ctime,
    })
}

/// Whether the error of a call with an [`Id`] says that no segment has the id
/// any more. Its `EINVAL` could mean more, but not to the calls made here.
pub(crate) fn is_removed_error(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIDRM))
}

/// [`shmctl(2)`](https://man7.org/linux/man-pages/man2/shmctl.2.html),
/// `IPC_SET`: the permission bits and, where given, another owner and group.
/// Only for the owner, the creator and root. What stays is read first and written
/// back, so a change that another makes at the same time may be lost.
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

/// [`shmctl(2)`](https://man7.org/linux/man-pages/man2/shmctl.2.html),
/// `IPC_RMID`: takes the key away. The memory lives on until the last
/// detachment; till then Linux lets those who know the id attach.
pub(crate) fn remove(id: Id) -> io::Result<()> {
    control(id, libc::IPC_RMID)
}

/// [`shmctl(2)`](https://man7.org/linux/man-pages/man2/shmctl.2.html),
/// `SHM_LOCK`: pages that are in memory, and those that will be, never go to
/// swap. Brings none in.
pub(crate) fn lock_in_memory(id: Id) -> io::Result<()> {
    control(id, libc::SHM_LOCK)
}

fn control(id: Id, command: libc::c_int) -> io::Result<()> {
    // SAFETY: these commands read no buffer.
    let rc = unsafe { libc::shmctl(id.0, command, std::ptr::null_mut()) };
    Errno::result(rc).map(drop).map_err(io_error)
}

fn control_with(
    id: Id,
    command: libc::c_int,
    segment: &mut libc::shmid_ds,
) -> io::Result<libc::shmid_ds> {
    // SAFETY: IPC_STAT fills and IPC_SET reads the one shmid_ds that is lent.
    let rc = unsafe { libc::shmctl(id.0, command, segment) };
    Errno::result(rc).map(|_| *segment).map_err(io_error)
}

fn blank() -> libc::shmid_ds {
    // SAFETY: a shmid_ds is made of integers only; zero is a value of each.
    unsafe { std::mem::zeroed() }
}

/// [`shmat(2)`](https://man7.org/linux/man-pages/man2/shmop.2.html): maps the
/// whole segment. The mapping is as long as the creator asked; forked children
/// are attached too.
///
/// Dropped, it is detached by `shmdt`, which alone knows how far a segment of
/// huge pages reaches.
pub(crate) fn attach(id: Id, access: Access) -> io::Result<Mapping> {
    let flags = match access {
        Access::ReadWrite => 0,
        Access::ReadOnly => libc::SHM_RDONLY,
    };
    // SAFETY: no address is asked for, so the kernel picks a free range and no
    // existing mapping is replaced.
    let base = unsafe { libc::shmat(id.0, std::ptr::null(), flags) };
    let base = Errno::result(base).map_err(io_error)?;
    // Attached, the segment can't vanish, and its length never changes.
    let len = status(id).and_then(|segment| {
        usize::try_from(segment.len)
            .ok()
            .and_then(NonZeroUsize::new)
            .ok_or_else(|| io_error(Errno::EINVAL))
    });
    let base = NonNull::new(base.cast()).ok_or_else(|| io_error(Errno::EFAULT))?;
    match len {
        // SAFETY: shmat has just mapped the segment there, all its bytes, for
        // this access, and the base is handed to nobody else.
        Ok(len) => Ok(unsafe { Mapping::of_attachment(base, len, access) }),
        Err(error) => {
            // SAFETY: as above; nobody has seen the address yet.
            unsafe { libc::shmdt(base.as_ptr().cast()) };
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: NonZeroUsize = NonZeroUsize::new(5000).unwrap();

    /// A segment that does not outlive its test.
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
        // SAFETY: the byte is mapped, writable, and this thread's alone.
        unsafe { first_byte(&writer).write_volatile(7) };
        // SAFETY: the byte is mapped, readable, and this thread's alone.
        let seen = unsafe { first_byte(&reader).read_volatile() };
        assert_eq!(seen, 7);
        drop((writer, reader));
        assert_eq!(status(segment.0).unwrap().attached, 0);
    }

    #[test]
    fn a_key_belongs_to_one_segment() {
        let key = 0x5300_0000 | i32::try_from(std::process::id()).unwrap();
        assert_eq!(errno(find(key)), Some(libc::ENOENT));
        let segment = Temporary(create(key, LEN, 0o640, Pages::Normal).unwrap());
        assert_eq!(find(key).unwrap(), segment.0);
        let second = create(key, LEN, 0o600, Pages::Normal);
        assert_eq!(errno(second), Some(libc::EEXIST));
        let facts = status(segment.0).unwrap();
        assert_eq!((facts.key, facts.mode), (key, 0o640));
    }

    #[test]
    fn key_0_is_nobodys() {
        assert_eq!(errno(find(0)), Some(libc::ENOENT));
        let nameless = create(0, LEN, 0o600, Pages::Normal);
        assert_eq!(errno(nameless), Some(libc::EINVAL));
    }

    #[test]
    fn a_removed_segment_lives_as_long_as_its_last_mapping() {
        let segment = Temporary::new();
        let mapping = attach(segment.0, Access::ReadWrite).unwrap();
        remove(segment.0).unwrap();
        let facts = status(segment.0).unwrap();
        assert!(facts.is_marked_for_removal);
        assert_eq!((facts.key, facts.attached), (0, 1));
        drop(mapping);
        assert!(is_removed_error(&status(segment.0).unwrap_err()));
        assert!(is_removed_error(&remove(segment.0).unwrap_err()));
        assert!(is_removed_error(
            &attach(segment.0, Access::ReadOnly).unwrap_err()
        ));
    }

    #[test]
    fn the_status_tells_who_and_when() {
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
    fn permissions_change_and_the_rest_stays() {
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
        // To oneself: a change that everybody may make.
        set_permissions(segment.0, Some(before.owner), Some(before.group), 0o600).unwrap();
        assert_eq!(status(segment.0).unwrap().mode, 0o600);
    }

    #[test]
    fn pages_are_locked_and_unlocked() {
        let segment = Temporary::new();
        match lock_in_memory(segment.0) {
            // A user who may lock nothing.
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
    fn huge_pages_are_detached_whole() {
        // Only where the administrator gives us some.
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
    fn ftok_makes_the_keys_of_c() {
        for path in ["/", "/proc/self/exe", "/dev/null"] {
            for project in [0, 1, b'S', 0xff] {
                let c_path = std::ffi::CString::new(path).unwrap();
                // SAFETY: the path is a C string that outlives the call.
                let expected = unsafe { libc::ftok(c_path.as_ptr(), project.into()) };
                assert_eq!(ftok(Path::new(path), project).unwrap(), expected);
            }
        }
        let missing = ftok(Path::new("/proc/self/no-such-file"), 1);
        assert_eq!(errno(missing), Some(libc::ENOENT));
    }
}
