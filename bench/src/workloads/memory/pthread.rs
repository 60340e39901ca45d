//! Raw robust mutexes in a row, each with a number behind it.

use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;

use super::Many;
use crate::contestants::{check, initialise};
use crate::failure::Failure;

#[repr(C)]
struct Slot {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    number: UnsafeCell<u64>,
}

/// A mapping of a memfd that is full of them.
pub(super) struct Mutexes {
    base: NonNull<Slot>,
    len: usize,
    file: OwnedFd,
}

impl Mutexes {
    /// Maps a file that is long enough for `len` of them.
    fn map(file: OwnedFd, len: usize) -> Result<Self, Failure> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses a free place, so nothing is overwritten.
        let base = unsafe { mmap(None, bytes(len), protection, MapFlags::MAP_SHARED, &file, 0) };
        Ok(Self {
            base: base.map_err(Failure::of("mmap"))?.cast(),
            len,
            file,
        })
    }

    fn slots(&self) -> &[Slot] {
        // SAFETY: the mapping is so long, aligned to a page, and stays as long as this;
        // zeros are a slot, and nothing in it is changed but through its cells.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl Drop for Mutexes {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nobody borrows from it any more.
        let _ = unsafe { munmap(self.base.cast(), bytes(self.len).get()) };
    }
}

impl Many for Mutexes {
    const NAME: &'static str = "pthread robust";

    fn create(len: usize) -> Result<Self, Failure> {
        let file = memfd_create(c"shm-sync-bench", MFdFlags::MFD_CLOEXEC)
            .map_err(Failure::of("memfd_create"))?;
        ftruncate(&file, bytes(len).get() as i64).map_err(Failure::of("ftruncate"))?;
        let mutexes = Self::map(file, len)?;
        for slot in mutexes.slots() {
            let mutex = slot.mutex.get();
            initialise(
                mutex,
                libc::PTHREAD_MUTEX_ROBUST,
                libc::PTHREAD_MUTEX_NORMAL,
            )?;
        }
        Ok(mutexes)
    }

    fn attach(&self) -> Result<Self, Failure> {
        let file = self.file.try_clone().map_err(Failure::of("dup"))?;
        Self::map(file, self.len)
    }

    #[inline]
    fn add_one(&self, index: usize) -> Result<u64, Failure> {
        let slot = &self.slots()[index];
        // SAFETY: `create` initialised it.
        let code = unsafe { libc::pthread_mutex_lock(slot.mutex.get()) };
        check("pthread_mutex_lock", code)?;
        // SAFETY: the lock is held, and this reference does not outlive it.
        let number = unsafe { &mut *slot.number.get() };
        *number += 1;
        let before = *number - 1;
        // SAFETY: initialised, and held by this thread.
        let code = unsafe { libc::pthread_mutex_unlock(slot.mutex.get()) };
        check("pthread_mutex_unlock", code)?;
        Ok(before)
    }
}

/// What `len` of them take; at least one byte.
fn bytes(len: usize) -> NonZeroUsize {
    NonZeroUsize::new(len * size_of::<Slot>()).unwrap_or(NonZeroUsize::MIN)
}
