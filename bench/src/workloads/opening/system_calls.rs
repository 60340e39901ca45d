//! Bare system calls.

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{OFlag, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap, shm_open, shm_unlink};
use nix::sys::stat::Mode;
use nix::unistd::{ftruncate, unlink};

use super::api::{Backing, SharedMemoryApi};
use crate::failure::Failure;
use crate::series::Survives;

pub(super) const LEN: NonZeroUsize = NonZeroUsize::new(4096).expect("a page is not empty");

/// Shared memory with this backing.
pub(super) struct SystemCalls(pub(super) Backing);

/// A mapping of a page.
pub(super) struct Mapping {
    base: NonNull<AtomicU64>,
    kind: MappingKind,
}

enum MappingKind {
    /// `mmap` of a file. The file stays open, because `open` may have to duplicate it.
    Mapped(OwnedFd),
    /// `shmat`.
    Attached,
}

impl SharedMemoryApi for SystemCalls {
    const NAME: &'static str = "bare system calls";
    // Other processes may find an object without a length or a number. The next creator
    // finds it too and fails.
    const SURVIVES: Survives = Survives::SomeKills;
    type Attachment = Mapping;

    fn create(&self) -> Result<Mapping, Failure> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL;
        let mapping = match self.0 {
            Backing::SystemV => attach(libc::IPC_CREAT | libc::IPC_EXCL)?,
            backing => {
                let file = open_file(backing, flags)?;
                ftruncate(&file, LEN.get() as i64).map_err(Failure::os("ftruncate"))?;
                map(file)?
            }
        };
        mapping.number().store(7, Ordering::Relaxed);
        Ok(mapping)
    }

    fn open(&self, first: &Mapping) -> Result<Mapping, Failure> {
        let mapping = match (self.0, &first.kind) {
            (Backing::Memfd, MappingKind::Mapped(file)) => {
                map(file.try_clone().map_err(Failure::os("dup"))?)?
            }
            (Backing::SystemV, _) => attach(0)?,
            (backing, _) => map(open_file(backing, OFlag::empty())?)?,
        };
        match mapping.number().swap(7, Ordering::Relaxed) {
            7 => Ok(mapping),
            number => Err(Failure::WrongResult {
                contestant: Self::NAME,
                what: format!("read {number}, which no process stored"),
            }),
        }
    }

    fn open_or_create(&self) -> Option<Result<Mapping, Failure>> {
        None
    }

    fn remove(&self) -> Result<(), Failure> {
        let address = self.0.address();
        match self.0 {
            Backing::Posix => shm_unlink(address.as_str()).map_err(Failure::os("shm_unlink")),
            Backing::File => unlink(address.as_str()).map_err(Failure::os("unlink")),
            Backing::SystemV => remove_system_v(),
            Backing::Memfd => Ok(()),
        }
    }
}

impl Mapping {
    /// Returns the file, which a System V segment does not have.
    pub(super) fn file(&self) -> Result<&OwnedFd, Failure> {
        match &self.kind {
            MappingKind::Mapped(file) => Ok(file),
            MappingKind::Attached => Err(Failure::Unavailable("it has no file".to_owned())),
        }
    }

    pub(super) fn number(&self) -> &AtomicU64 {
        // SAFETY: the memory is a page long, aligned to a page and stays mapped as long
        // as `self`. All processes access the number as an atomic.
        unsafe { self.base.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let base = self.base.cast();
        match self.kind {
            // SAFETY: `map` mapped this address with this length, and all borrows have
            // ended.
            MappingKind::Mapped(_) => drop(unsafe { munmap(base, LEN.get()) }),
            // SAFETY: `attach` attached the segment there, and all borrows have ended.
            MappingKind::Attached => drop(unsafe { libc::shmdt(base.as_ptr()) }),
        }
    }
}

/// Opens or creates an object or a file.
fn open_file(backing: Backing, flags: OFlag) -> Result<OwnedFd, Failure> {
    let address = backing.address();
    let flags = flags | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    match backing {
        Backing::Memfd => memfd_create(c"shm-sync-bench", MFdFlags::MFD_CLOEXEC)
            .map_err(Failure::os("memfd_create")),
        Backing::File => open(address.as_str(), flags, mode).map_err(Failure::os("open")),
        _ => shm_open(address.as_str(), flags, mode).map_err(Failure::os("shm_open")),
    }
}

pub(super) fn map(file: OwnedFd) -> Result<Mapping, Failure> {
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: the kernel chooses a free address, so the call overwrites no mapping.
    let base = unsafe { mmap(None, LEN, protection, MapFlags::MAP_SHARED, &file, 0) };
    Ok(Mapping {
        base: base.map_err(Failure::os("mmap"))?.cast(),
        kind: MappingKind::Mapped(file),
    })
}

/// Attaches the System V segment of this process.
fn attach(flags: i32) -> Result<Mapping, Failure> {
    let id = system_v_id(flags)?;
    // SAFETY: the kernel chooses a free address, so the call overwrites no mapping.
    let base = unsafe { libc::shmat(id, ptr::null(), 0) };
    match NonNull::new(base) {
        Some(base) if base.addr().get() != usize::MAX => Ok(Mapping {
            base: base.cast(),
            kind: MappingKind::Attached,
        }),
        _ => Err(Failure::last_os("shmat")),
    }
}

fn system_v_id(flags: i32) -> Result<i32, Failure> {
    // SAFETY: the call takes numbers and no memory.
    match unsafe { libc::shmget(std::process::id().cast_signed(), LEN.get(), flags | 0o600) } {
        -1 => Err(Failure::last_os("shmget")),
        id => Ok(id),
    }
}

fn remove_system_v() -> Result<(), Failure> {
    let id = system_v_id(0)?;
    // SAFETY: `IPC_RMID` does not use the pointer.
    match unsafe { libc::shmctl(id, libc::IPC_RMID, ptr::null_mut()) } {
        -1 => Err(Failure::last_os("shmctl")),
        _ => Ok(()),
    }
}
