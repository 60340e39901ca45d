//! The bare system calls.

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{OFlag, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap, shm_open, shm_unlink};
use nix::sys::stat::Mode;
use nix::unistd::{ftruncate, unlink};

use super::{Kind, Memory};
use crate::failure::Failure;
use crate::report::Survives;

const LEN: NonZeroUsize = NonZeroUsize::new(4096).expect("a page is not empty");

/// Memory of some kind.
pub(super) struct Bare(pub(super) Kind);

/// What is mapped.
pub(super) struct Mapping {
    base: NonNull<AtomicU64>,
    /// How it was made, and is let go.
    means: Means,
}

enum Means {
    /// `mmap`, of a file: kept open, as it must be where others get it from here.
    Mapped(OwnedFd),
    /// `shmat`.
    Attached,
}

impl Memory for Bare {
    const NAME: &'static str = "bare system calls";
    // Others may find it without a length or a number, and whoever creates it next finds
    // it there.
    const SURVIVES: Survives = Survives::SomeKills;
    type Attached = Mapping;

    fn create(&self) -> Result<Mapping, Failure> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL;
        let mapping = match self.0 {
            Kind::SystemV => attach(libc::IPC_CREAT | libc::IPC_EXCL)?,
            kind => {
                let file = open_file(kind, flags)?;
                ftruncate(&file, LEN.get() as i64).map_err(Failure::of("ftruncate"))?;
                map(file)?
            }
        };
        mapping.number().store(7, Ordering::Relaxed);
        Ok(mapping)
    }

    fn open(&self, first: &Mapping) -> Result<Mapping, Failure> {
        let mapping = match (self.0, &first.means) {
            (Kind::Memfd, Means::Mapped(file)) => {
                map(file.try_clone().map_err(Failure::of("dup"))?)?
            }
            (Kind::SystemV, _) => attach(0)?,
            (kind, _) => map(open_file(kind, OFlag::empty())?)?,
        };
        match mapping.number().load(Ordering::Relaxed) {
            7 => Ok(mapping),
            number => Err(Failure::Wrong {
                contestant: Self::NAME,
                what: format!("{number} was never stored"),
            }),
        }
    }

    fn open_or_create(&self) -> Option<Result<Mapping, Failure>> {
        None
    }

    fn remove(&self) -> Result<(), Failure> {
        let address = self.0.address();
        match self.0 {
            Kind::Posix => shm_unlink(address.as_str()).map_err(Failure::of("shm_unlink")),
            Kind::File => unlink(address.as_str()).map_err(Failure::of("unlink")),
            Kind::SystemV => remove_system_v(),
            Kind::Memfd => Ok(()),
        }
    }
}

impl Mapping {
    fn number(&self) -> &AtomicU64 {
        // SAFETY: the memory is a page long and aligned to one, and stays as long as this;
        // everybody uses the number as an atomic.
        unsafe { self.base.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let base = self.base.cast();
        match self.means {
            // SAFETY: it was mapped with this length, and nobody borrows from it any more.
            Means::Mapped(_) => drop(unsafe { munmap(base, LEN.get()) }),
            // SAFETY: it was attached there, and nobody borrows from it any more.
            Means::Attached => drop(unsafe { libc::shmdt(base.as_ptr()) }),
        }
    }
}

/// Opens an object or a file, which is made if `flags` say so.
fn open_file(kind: Kind, flags: OFlag) -> Result<OwnedFd, Failure> {
    let address = kind.address();
    let flags = flags | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    match kind {
        Kind::Memfd => memfd_create(c"shm-sync-bench", MFdFlags::MFD_CLOEXEC)
            .map_err(Failure::of("memfd_create")),
        Kind::File => open(address.as_str(), flags, mode).map_err(Failure::of("open")),
        _ => shm_open(address.as_str(), flags, mode).map_err(Failure::of("shm_open")),
    }
}

fn map(file: OwnedFd) -> Result<Mapping, Failure> {
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: the kernel chooses a free place, so nothing is overwritten.
    let base = unsafe { mmap(None, LEN, protection, MapFlags::MAP_SHARED, &file, 0) };
    Ok(Mapping {
        base: base.map_err(Failure::of("mmap"))?.cast(),
        means: Means::Mapped(file),
    })
}

/// Attaches this process's System V segment.
fn attach(flags: i32) -> Result<Mapping, Failure> {
    let id = system_v_id(flags)?;
    // SAFETY: the kernel chooses a free place, so nothing is overwritten.
    let base = unsafe { libc::shmat(id, ptr::null(), 0) };
    match NonNull::new(base) {
        Some(base) if base.addr().get() != usize::MAX => Ok(Mapping {
            base: base.cast(),
            means: Means::Attached,
        }),
        _ => Err(Failure::last("shmat")),
    }
}

fn system_v_id(flags: i32) -> Result<i32, Failure> {
    // SAFETY: takes numbers.
    match unsafe { libc::shmget(std::process::id().cast_signed(), LEN.get(), flags | 0o600) } {
        -1 => Err(Failure::last("shmget")),
        id => Ok(id),
    }
}

fn remove_system_v() -> Result<(), Failure> {
    let id = system_v_id(0)?;
    // SAFETY: nothing is read or written by this command.
    match unsafe { libc::shmctl(id, libc::IPC_RMID, ptr::null_mut()) } {
        -1 => Err(Failure::last("shmctl")),
        _ => Ok(()),
    }
}
