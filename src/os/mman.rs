//! Shared mappings, owned.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use super::io_error;

/// The strictest alignment that the base of every mapping has: the smallest
/// page size of any Linux.
pub(crate) const MIN_PAGE: usize = 4096;

/// A mapping of this process, unmapped when dropped.
///
/// Holding one proves that `len` bytes from `base` are mapped, readable and
/// writable, and that nobody else in this process will unmap them.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: NonZeroUsize,
}

// SAFETY: a mapping belongs to the process, not to a thread; the type hands out
// only its raw address.
unsafe impl Send for Mapping {}
// SAFETY: as for Send; no method mutates through `&self`.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// [`mmap(2)`](https://man7.org/linux/man-pages/man2/mmap.2.html) of the
    /// first `len` bytes of `fd`, `MAP_SHARED`.
    pub(crate) fn of_file(fd: impl AsFd, len: NonZeroUsize) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: no address is asked for, so the kernel picks a free range and
        // no existing mapping is replaced.
        let base = unsafe { mmap(None, len, protection, MapFlags::MAP_SHARED, fd, 0) };
        Ok(Self {
            base: base.map_err(io_error)?.cast(),
            len,
        })
    }

    /// [`mmap(2)`](https://man7.org/linux/man-pages/man2/mmap.2.html),
    /// `MAP_SHARED | MAP_ANONYMOUS`: zeroed memory that forked children share.
    pub(crate) fn anonymous(len: NonZeroUsize) -> io::Result<Self> {
        Self::without_file(len, MapFlags::MAP_SHARED)
    }

    /// A private page of zeros that the kernel zeroes again in every forked
    /// child ([`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html),
    /// `MADV_WIPEONFORK`, Linux 4.14).
    pub(super) fn wiped_on_fork() -> io::Result<Self> {
        let len = NonZeroUsize::new(MIN_PAGE).expect("a page is not empty");
        let page = Self::without_file(len, MapFlags::MAP_PRIVATE)?;
        // SAFETY: the range is the mapping just made; the advice changes what
        // children see of it, nothing in this process.
        unsafe {
            madvise(
                page.base.cast(),
                page.len.get(),
                MmapAdvise::MADV_WIPEONFORK,
            )
        }
        .map_err(io_error)?;
        Ok(page)
    }

    fn without_file(len: NonZeroUsize, sharing: MapFlags) -> io::Result<Self> {
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: as in `of_file`.
        let base = unsafe { mmap_anonymous(None, len, protection, sharing) };
        Ok(Self {
            base: base.map_err(io_error)?.cast(),
            len,
        })
    }

    /// The first byte; aligned to a page.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    /// Gives up ownership: the memory stays mapped for the life of the process.
    pub(crate) fn leak(self) -> NonNull<u8> {
        std::mem::ManuallyDrop::new(self).base
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by a constructor and never given away.
        // It can't fail: the address and length are the kernel's own.
        let _ = unsafe { munmap(self.base.cast(), self.len.get()) };
    }
}
