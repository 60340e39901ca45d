//! Locks that belong to an open file: `flock`, and the open file description (OFD)
//! locks of `fcntl`. Each worker opens the file itself. The file is a memfd.

use std::ffi::c_short;
use std::fs::File;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::guarded::Guarded;
use super::lock::{Cost, Lock, Profile, Scope, fail};
use crate::failure::Failure;
use crate::series::Survives;
use crate::shared::Shared;

/// An open file and the number that its lock guards.
#[derive(Debug)]
struct LockFile {
    file: File,
    shared: Shared<Guarded<()>>,
}

impl LockFile {
    fn create() -> Result<Self, Failure> {
        let file = memfd_create(c"shm-sync-bench", MFdFlags::MFD_CLOEXEC)
            .map_err(Failure::os("memfd_create"))?;
        Ok(Self {
            file: file.into(),
            shared: Shared::zeroed()?,
        })
    }

    /// Opens the file again. Without it a forked process would share the open file, and
    /// therefore the lock, with its parent.
    fn reopen(&mut self) -> Result<(), Failure> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        self.file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(Failure::os("open"))?;
        Ok(())
    }
}

/// Repeats a call that a signal interrupts.
#[inline]
fn retry_on_eintr(call: &str, mut f: impl FnMut() -> i32) {
    while f() != 0 {
        let error = Errno::last();
        if error != Errno::EINTR {
            fail(call, error);
        }
    }
}

/// `flock(2)`.
#[derive(Debug)]
pub(crate) struct Flock(LockFile);

impl Flock {
    #[inline]
    fn call(&self, operation: i32) {
        // SAFETY: the call takes an open descriptor and a number, and no memory.
        retry_on_eintr("flock", || unsafe {
            libc::flock(self.0.file.as_raw_fd(), operation)
        });
    }
}

impl Lock for Flock {
    const PROFILE: Profile = Profile {
        name: "flock",
        survives: Survives::Kills,
        tells: false,
        scope: Scope::Processes,
        cost: Cost::SystemCalls,
        bytes: 0,
    };

    fn create() -> Result<Self, Failure> {
        LockFile::create().map(Self)
    }

    fn after_fork(&mut self) -> Result<(), Failure> {
        self.0.reopen()
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        self.call(libc::LOCK_EX);
        // SAFETY: this worker holds the lock of the file and has no other reference.
        let result = inside(unsafe { self.0.shared.value() });
        self.call(libc::LOCK_UN);
        result
    }
}

/// `fcntl(2)` with `F_OFD_SETLKW`, on the whole file.
#[derive(Debug)]
pub(crate) struct OfdLock(LockFile);

impl OfdLock {
    #[inline]
    fn call(&self, r#type: i32) {
        let range = libc::flock {
            l_type: r#type as c_short,
            l_whence: libc::SEEK_SET as c_short,
            l_start: 0,
            l_len: 0,
            l_pid: 0,
        };
        // SAFETY: the descriptor is open, and `range` outlives the call.
        retry_on_eintr("fcntl", || unsafe {
            libc::fcntl(
                self.0.file.as_raw_fd(),
                libc::F_OFD_SETLKW,
                &raw const range,
            )
        });
    }
}

impl Lock for OfdLock {
    const PROFILE: Profile = Profile {
        name: "fcntl OFD lock",
        survives: Survives::Kills,
        tells: false,
        scope: Scope::Processes,
        cost: Cost::SystemCalls,
        bytes: 0,
    };

    fn create() -> Result<Self, Failure> {
        LockFile::create().map(Self)
    }

    fn after_fork(&mut self) -> Result<(), Failure> {
        self.0.reopen()
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        self.call(libc::F_WRLCK);
        // SAFETY: this worker holds the lock of the file and has no other reference.
        let result = inside(unsafe { self.0.shared.value() });
        self.call(libc::F_UNLCK);
        result
    }
}
