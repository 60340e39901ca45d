//! System calls with the checks of shm-sync: a lower bound for shared memory that is
//! complete when it has a name, that knows its users, and whose opener believes no
//! foreign object.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use nix::fcntl::{
    AT_FDCWD, AtFlags, FallocateFlags, FcntlArg, OFlag, SealFlag, fallocate, fcntl, open,
};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, lstat};
use nix::sys::statfs::fstatfs;
use nix::sys::uio::pread;
use nix::unistd::{fsync, ftruncate, linkat};

use super::api::{Backing, SharedMemoryApi};
use super::system_calls::{LEN, Mapping, SystemCalls, map};
use crate::failure::Failure;
use crate::series::Survives;

/// The mode of each object.
const MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// How much an opener reads before it maps the object: a header of shm-sync.
const HEADER: usize = 448;

/// Shared memory with this backing. There is none for System V segments, because
/// shm-sync is close to the bare calls there.
pub(super) struct CarefulCalls(pub(super) Backing);

impl SharedMemoryApi for CarefulCalls {
    const NAME: &'static str = "careful system calls";
    const SURVIVES: Survives = Survives::Kills;
    type Attachment = Mapping;

    /// Creates an object without a name, reserves its memory, completes it, registers
    /// this process as its user, and names it.
    fn create(&self) -> Result<Mapping, Failure> {
        if self.0 == Backing::Memfd {
            let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
            let file =
                memfd_create(c"shm-sync-bench", flags).map_err(Failure::os("memfd_create"))?;
            fchmod(&file, MODE).map_err(Failure::os("fchmod"))?;
            ftruncate(&file, LEN.get() as i64).map_err(Failure::os("ftruncate"))?;
            let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
            fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).map_err(Failure::os("fcntl"))?;
            return filled(file);
        }
        let directory = self.directory();
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        let file = open(&directory, flags, MODE).map_err(Failure::os("open"))?;
        fallocate(&file, FallocateFlags::empty(), 0, LEN.get() as i64)
            .map_err(Failure::os("fallocate"))?;
        identify(&file)?;
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        let mapping = filled(file)?;
        let file = mapping.file()?;
        fchmod(file, MODE).map_err(Failure::os("fchmod"))?;
        if self.0 == Backing::File {
            fsync(file).map_err(Failure::os("fsync"))?;
        }
        register(file)?;
        let (path, follow) = (self.path(), AtFlags::AT_SYMLINK_FOLLOW);
        linkat(AT_FDCWD, Path::new(&unnamed), AT_FDCWD, &path, follow)
            .map_err(Failure::os("linkat"))?;
        if self.0 == Backing::File {
            let directory = File::open(&directory).map_err(Failure::os("open"))?;
            directory.sync_all().map_err(Failure::os("fsync"))?;
        }
        Ok(mapping)
    }

    /// Checks the object and its header before it is mapped, registers this process as
    /// a user, and checks that the name still leads to the object.
    fn open(&self, first: &Mapping) -> Result<Mapping, Failure> {
        let path = self.path();
        let file = match self.0 {
            Backing::Memfd => {
                let file = first.file()?.try_clone().map_err(Failure::os("dup"))?;
                fcntl(&file, FcntlArg::F_GET_SEALS).map_err(Failure::os("fcntl"))?;
                file
            }
            _ => {
                let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
                open(&path, flags, Mode::empty()).map_err(Failure::os("open"))?
            }
        };
        let mut header = [0; HEADER];
        pread(&file, &mut header, 0).map_err(Failure::os("pread"))?;
        let found = identify(&file)?;
        if self.0 != Backing::Memfd {
            register(&file)?;
        }
        let mapping = map(file)?;
        let has_name = self.0 == Backing::Memfd
            || lstat(&path).map_err(Failure::os("lstat"))?.st_ino == found.st_ino;
        match mapping.number().swap(7, Ordering::Relaxed) {
            7 if has_name => Ok(mapping),
            number => Err(Failure::WrongResult {
                contestant: Self::NAME,
                what: format!("read {number}, which no process stored, or lost the name"),
            }),
        }
    }

    fn open_or_create(&self) -> Option<Result<Mapping, Failure>> {
        None
    }

    fn remove(&self) -> Result<(), Failure> {
        SystemCalls(self.0).remove()
    }
}

impl CarefulCalls {
    fn path(&self) -> PathBuf {
        let address = self.0.address();
        match self.0 {
            Backing::File => PathBuf::from(address),
            _ => Path::new("/dev/shm").join(address.trim_start_matches('/')),
        }
    }

    fn directory(&self) -> PathBuf {
        match self.0 {
            Backing::File => std::env::temp_dir(),
            _ => PathBuf::from("/dev/shm"),
        }
    }
}

/// Maps a new object, and stores the number.
fn filled(file: OwnedFd) -> Result<Mapping, Failure> {
    let mapping = map(file)?;
    mapping.number().store(7, Ordering::Relaxed);
    Ok(mapping)
}

/// Asks what tells a file from its copies and from a file of another boot.
fn identify(file: &OwnedFd) -> Result<FileStat, Failure> {
    fstatfs(file).map_err(Failure::os("fstatfs"))?;
    let mut facts = MaybeUninit::<libc::statx>::uninit();
    // SAFETY: the path is a C string, and `facts` is valid for writes of its type.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_statx,
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            libc::STATX_BTIME,
            facts.as_mut_ptr(),
        )
    };
    if rc != 0 {
        return Err(Failure::last_os("statx"));
    }
    fstat(file).map_err(Failure::os("fstat"))
}

/// Takes a shared lock far behind the end of the file, for as long as it is open.
fn register(file: &OwnedFd) -> Result<(), Failure> {
    let request = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: (1 << 62) + libc::off_t::from(std::process::id()),
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&request)).map_err(Failure::os("fcntl"))?;
    Ok(())
}
