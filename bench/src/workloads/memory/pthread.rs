//! An array of raw robust mutexes, each with a number behind it.

use std::cell::UnsafeCell;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use nix::unistd::ftruncate;

use super::lock_array::LockArray;
use crate::contestants::{check, initialise};
use crate::failure::Failure;

#[repr(C)]
struct Slot {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    number: UnsafeCell<u64>,
}

/// A mapping of a memfd with mutexes.
pub(super) struct PthreadArray {
    base: NonNull<Slot>,
    len: usize,
    file: OwnedFd,
}

impl PthreadArray {
    /// Maps a file that is long enough for `len` slots.
    fn map(file: OwnedFd, len: usize) -> Result<Self, Failure> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses a free address, so the call overwrites no mapping.
        let base = unsafe { mmap(None, bytes(len), protection, MapFlags::MAP_SHARED, &file, 0) };
        Ok(Self {
            base: base.map_err(Failure::os("mmap"))?.cast(),
            len,
            file,
        })
    }

    fn slots(&self) -> &[Slot] {
        // SAFETY: the mapping is aligned to a page, has `len` slots and stays mapped as
        // long as `self`. Zeros are a valid slot, and its contents only change in its
        // cells.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.len) }
    }
}

impl Drop for PthreadArray {
    fn drop(&mut self) {
        // SAFETY: `map` mapped this address with this length, and all borrows have
        // ended.
        let _ = unsafe { munmap(self.base.cast(), bytes(self.len).get()) };
    }
}

impl LockArray for PthreadArray {
    const NAME: &'static str = "pthread robust";

    fn create(len: usize) -> Result<Self, Failure> {
        let file = memfd_create(c"shm-sync-bench", MFdFlags::MFD_CLOEXEC)
            .map_err(Failure::os("memfd_create"))?;
        ftruncate(&file, bytes(len).get() as i64).map_err(Failure::os("ftruncate"))?;
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
        let file = self.file.try_clone().map_err(Failure::os("dup"))?;
        Self::map(file, self.len)
    }

    #[inline]
    fn add_one(&self, index: usize) -> Result<u64, Failure> {
        let slot = &self.slots()[index];
        // SAFETY: `create` has initialised the mutex.
        let code = unsafe { libc::pthread_mutex_lock(slot.mutex.get()) };
        check("pthread_mutex_lock", code)?;
        // SAFETY: this worker holds the lock as long as it uses the reference.
        let number = unsafe { &mut *slot.number.get() };
        *number += 1;
        let before = *number - 1;
        // SAFETY: the mutex is initialised, and this thread holds it.
        let code = unsafe { libc::pthread_mutex_unlock(slot.mutex.get()) };
        check("pthread_mutex_unlock", code)?;
        Ok(before)
    }
}

/// Returns the size of `len` slots, at least one byte.
fn bytes(len: usize) -> NonZeroUsize {
    NonZeroUsize::new(len * size_of::<Slot>()).unwrap_or(NonZeroUsize::MIN)
}
