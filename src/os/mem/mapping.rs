//! Mappings that unmap themselves when dropped, and the system calls for them.
//!
//! Manual pages: [`mmap(2)`], [`shmat(2)`], [`mlock(2)`], [`madvise(2)`], [`msync(2)`],
//! [`mincore(2)`], [`getrlimit(2)`].
//!
//! [`mmap(2)`]: https://man7.org/linux/man-pages/man2/mmap.2.html
//! [`shmat(2)`]: https://man7.org/linux/man-pages/man2/shmop.2.html
//! [`mlock(2)`]: https://man7.org/linux/man-pages/man2/mlock.2.html
//! [`madvise(2)`]: https://man7.org/linux/man-pages/man2/madvise.2.html
//! [`msync(2)`]: https://man7.org/linux/man-pages/man2/msync.2.html
//! [`mincore(2)`]: https://man7.org/linux/man-pages/man2/mincore.2.html
//! [`getrlimit(2)`]: https://man7.org/linux/man-pages/man2/getrlimit.2.html

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::mman::{
    MapFlags, MmapAdvise, MsFlags, ProtFlags, madvise, mlock, mmap, mmap_anonymous, msync, munmap,
};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::any_bytes::AnyBytes;
use super::atomic_copy;
use super::pages::{MIN_PAGE, huge_page_size, page_size, round_up_to_huge_pages};
use crate::os::{io_error, retry_on_eintr};

/// The bits that [`Mapping::break_copy_on_write`] sets in each page.
static ZERO: u64 = 0;

/// The accesses that a mapping permits.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Access {
    /// Reads only. A write raises `SIGSEGV`.
    ReadOnly,
    /// Reads and writes.
    ReadWrite,
}

/// A mapping of this process. `drop` unmaps it.
///
/// A value proves that `len` bytes from `base` on are mapped and readable, that they
/// are writable if [`access`](Self::access) is [`Access::ReadWrite`], and that no other
/// code of this process unmaps them. Code that passes the memory of a read-only mapping
/// on must not permit writes.
///
/// A file must not become shorter than its mapping, because an access beyond the end of
/// the file raises `SIGBUS`.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: NonZeroUsize,
    access: Access,
    release: Release,
}

/// The call that ends a mapping.
#[derive(Clone, Copy, Debug)]
enum Release {
    /// `munmap` of this many bytes, which are a multiple of the size of huge pages if
    /// the mapping consists of such pages.
    Unmap(NonZeroUsize),
    /// `shmdt`.
    Detach,
}

// SAFETY: every thread of the process can use and unmap a mapping.
unsafe impl Send for Mapping {}
// SAFETY: through `&self`, safe methods return an address or `AnyBytes`, and access the
// memory by relaxed loads. `break_copy_on_write` states its conditions for other
// threads.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `fd` for reading and writing: `mmap(2)`,
    /// `MAP_SHARED`.
    pub(crate) fn of_file(fd: impl AsFd, len: NonZeroUsize) -> io::Result<Self> {
        Self::of_file_with(fd, len, Access::ReadWrite)
    }

    /// Maps the first `len` bytes of `fd`: `mmap(2)`, `MAP_SHARED`.
    pub(crate) fn of_file_with(
        fd: impl AsFd,
        len: NonZeroUsize,
        access: Access,
    ) -> io::Result<Self> {
        Self::map_file(fd, len, access, MapFlags::MAP_SHARED)
    }

    /// Maps the first `len` bytes of `fd` as a private copy: `mmap(2)`, `MAP_PRIVATE`.
    ///
    /// The copy is writable, but `fd` need only be open for reading. The kernel copies
    /// a page at the first write to it. Until then the page shows the writes of other
    /// processes to the file.
    pub(crate) fn private_of_file(fd: impl AsFd, len: NonZeroUsize) -> io::Result<Self> {
        Self::map_file(fd, len, Access::ReadWrite, MapFlags::MAP_PRIVATE)
    }

    fn map_file(
        fd: impl AsFd,
        len: NonZeroUsize,
        access: Access,
        sharing: MapFlags,
    ) -> io::Result<Self> {
        let mapped = round_up_to_huge_pages(&fd, len)?;
        // SAFETY: without an address, the kernel chooses a free range and replaces no
        // mapping.
        let base = unsafe { mmap(None, mapped, access.protection(), sharing, fd, 0) };
        Ok(Self {
            base: base.map_err(io_error)?.cast(),
            len,
            access,
            release: Release::Unmap(mapped),
        })
    }

    /// Takes ownership of an attachment that `shmat(2)` made.
    ///
    /// # Safety
    ///
    /// * A System V segment is attached at `base`, for `access`.
    /// * The segment has `len` bytes.
    /// * No other code detaches it.
    pub(super) unsafe fn of_attachment(
        base: NonNull<u8>,
        len: NonZeroUsize,
        access: Access,
    ) -> Self {
        Self {
            base,
            len,
            access,
            release: Release::Detach,
        }
    }

    /// Maps `len` zero bytes for this process alone: `mmap(2)`,
    /// `MAP_PRIVATE | MAP_ANONYMOUS`.
    pub(crate) fn private(len: NonZeroUsize) -> io::Result<Self> {
        let access = Access::ReadWrite;
        // SAFETY: without an address, the kernel chooses a free range and replaces no
        // mapping.
        let base = unsafe { mmap_anonymous(None, len, access.protection(), MapFlags::MAP_PRIVATE) };
        Ok(Self {
            base: base.map_err(io_error)?.cast(),
            len,
            access,
            release: Release::Unmap(len),
        })
    }

    /// Maps a private page of zeros that the kernel zeroes again in every forked child:
    /// `madvise(2)`, `MADV_WIPEONFORK` (Linux 4.14).
    pub(crate) fn wiped_on_fork() -> io::Result<Self> {
        let len = NonZeroUsize::new(MIN_PAGE).expect("a page is not empty");
        let page = Self::private(len)?;
        // SAFETY: the range is the new mapping. The advice changes its content only in
        // child processes.
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

    /// Excludes the memory from byte `from` on, which begins a page, from the address
    /// spaces of forked children: `madvise(2)`, `MADV_DONTFORK`.
    pub(crate) fn exclude_from_children(&self, from: usize) -> io::Result<()> {
        let at = self.base.as_ptr().wrapping_add(from);
        let at = NonNull::new(at.cast()).ok_or_else(|| io_error(Errno::EINVAL))?;
        let len = self.len().saturating_sub(from);
        // SAFETY: the range is part of this mapping. The advice changes no content.
        unsafe { madvise(at, len, MmapAdvise::MADV_DONTFORK) }.map_err(io_error)
    }

    /// Returns the address of the first byte, which is aligned to a page.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Returns the length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    /// Returns the access that the mapping permits.
    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// Brings every page into memory and keeps it there until the mapping ends:
    /// `mlock(2)`.
    ///
    /// Forked children do not inherit this. The bytes count against
    /// [`memory_lock_limit`]: the error is `ENOMEM`, or `EPERM` if the limit is 0.
    pub(crate) fn lock_in_memory(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping, and the call does not change its content.
        retry_on_eintr(|| unsafe { mlock(self.base.cast(), self.len()) })
    }

    /// Brings every page into memory, so that the first such access meets no page
    /// fault: `madvise(2)`, `MADV_POPULATE_READ` or `MADV_POPULATE_WRITE` (Linux 5.14,
    /// before it `EINVAL`).
    ///
    /// A page that the kernel can't provide is an error instead of a signal: `EFAULT`
    /// if the file is too short. The content does not change.
    pub(crate) fn prefault(&self, access: Access) -> io::Result<()> {
        let advice = match access {
            Access::ReadWrite => MmapAdvise::MADV_POPULATE_WRITE,
            Access::ReadOnly => MmapAdvise::MADV_POPULATE_READ,
        };
        // SAFETY: the range is this mapping, and the advice does not change its
        // content.
        retry_on_eintr(|| unsafe { madvise(self.base.cast(), self.len(), advice) })
    }

    /// Excludes the memory from core dumps of this process and of children that it
    /// forks from now on: `madvise(2)`, `MADV_DONTDUMP`.
    pub(crate) fn exclude_from_core_dumps(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping, or the huge pages that it covers and that
        // are attached with it. The advice does not change their content.
        let advise = |len| unsafe { madvise(self.base.cast(), len, MmapAdvise::MADV_DONTDUMP) };
        let len = match self.release {
            Release::Unmap(len) => len.get(),
            Release::Detach => self.len(),
        };
        let mut result = advise(len);
        if result == Err(Errno::EINVAL) {
            // For a System V segment of huge pages, the kernel accepts the advice only
            // for whole pages.
            let page = huge_page_size()?.get();
            result = advise(len.next_multiple_of(page));
        }
        result.map_err(io_error)
    }

    /// Waits until all writes are on the file's device: `msync(2)`, `MS_SYNC`. Does
    /// nothing for files in memory.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping, and the call does not change its content.
        retry_on_eintr(|| unsafe { msync(self.base.cast(), self.len(), MsFlags::MS_SYNC) })
    }

    /// Makes a private mapping independent of its file. A write to each page, which
    /// does not change the page, lets the kernel copy it now.
    ///
    /// # Panics
    ///
    /// If the mapping is read-only.
    ///
    /// # Safety
    ///
    /// * While this call runs, other threads of this process access the memory only by
    ///   atomic operations on aligned words of eight bytes.
    /// * The file is as long as the mapping.
    pub(crate) unsafe fn break_copy_on_write(&self) {
        assert_eq!(self.access, Access::ReadWrite, "a copy is writable");
        // A volatile read hides from the compiler that the value is 0. Otherwise it may
        // omit the writes.
        // SAFETY: a static is valid for reads.
        let zero = unsafe { (&raw const ZERO).read_volatile() };
        for page in (0..self.len()).step_by(page_size()) {
            let at = self.base.as_ptr().wrapping_add(page);
            // SAFETY:
            // * Valid and aligned: a page is mapped to its end, even if the mapping
            //   ends inside its first word, and the file reaches it (second clause).
            // * No data race: other threads access the word atomically (first clause).
            let word = unsafe { AtomicU64::from_ptr(at.cast()) };
            // One atomic step. A load and a store could overwrite a write of another
            // process in between.
            word.fetch_or(zero, Ordering::Relaxed);
        }
    }

    /// Returns how many pages of the mapped part of the file are in memory:
    /// `mincore(2)`.
    pub(crate) fn resident_pages(&self) -> io::Result<usize> {
        /// Pages per call.
        const BATCH: usize = 4096;
        let mut answers = [0_u8; BATCH];
        let mut resident = 0;
        let step = BATCH * page_size();
        for start in (0..self.len()).step_by(step) {
            let len = step.min(self.len() - start);
            let at = self.base.as_ptr().wrapping_add(start);
            // SAFETY: the range is part of this mapping, and the buffer has a byte for
            // each of its pages.
            let rc = unsafe { libc::mincore(at.cast(), len, answers.as_mut_ptr()) };
            Errno::result(rc).map_err(io_error)?;
            let pages = len.div_ceil(page_size());
            resident += answers[..pages]
                .iter()
                .filter(|answer| *answer & 1 == 1)
                .count();
        }
        Ok(resident)
    }

    /// Returns the `T` that begins `offset` bytes into the mapping. Returns `None` if
    /// it would exceed the mapping or would not be aligned.
    ///
    /// A write to it raises `SIGSEGV` if the mapping is [`Access::ReadOnly`].
    pub(crate) fn get<T: AnyBytes>(&self, offset: usize) -> Option<&T> {
        let end = offset.checked_add(size_of::<T>())?;
        let value = self.base.as_ptr().wrapping_add(offset).cast::<T>();
        if end > self.len() || !value.is_aligned() {
            return None;
        }
        // SAFETY:
        // * Not null, aligned and inside the mapping: checked above.
        // * A valid value, and no data race with changes by other processes:
        //   `AnyBytes`.
        // * Mapped while the reference exists: it borrows `self`.
        Some(unsafe { &*value })
    }

    /// Copies the bytes from `offset` on, while other threads and processes may write
    /// them: see [`atomic_copy::copy_relaxed`].
    ///
    /// # Panics
    ///
    /// If the bytes exceed the mapping.
    pub(crate) fn copy_to(&self, buffer: &mut [u8], offset: usize) {
        let end = offset.checked_add(buffer.len());
        assert!(
            end.is_some_and(|end| end <= self.len()),
            "inside the mapping"
        );
        let from = self.base.as_ptr().wrapping_add(offset);
        // SAFETY:
        // * `from`: as many bytes as the buffer has are inside the mapping, as checked.
        // * `to`: the buffer is exclusively borrowed, so it is writable and apart.
        unsafe { atomic_copy::copy_relaxed(from, buffer.as_mut_ptr(), buffer.len()) };
    }

    /// Ends the mapping: `munmap(2)` or `shmdt(2)`.
    ///
    /// The kernel chose address and length, so the call fails only if a sandbox refuses
    /// it, or if the process would have too many mappings. The memory then stays
    /// mapped.
    pub(crate) fn unmap(self) -> io::Result<()> {
        let mapping = std::mem::ManuallyDrop::new(self);
        // SAFETY: this function owns the mapping, does not use it afterwards, and
        // prevents the call of `drop`.
        unsafe { mapping.release() }
    }

    /// Ends the mapping.
    ///
    /// # Safety
    ///
    /// * The memory is not used afterwards.
    /// * It is called once.
    unsafe fn release(&self) -> io::Result<()> {
        match self.release {
            Release::Unmap(len) => {
                // SAFETY: a constructor mapped the range, and this value owns it. It is
                // not used or released afterwards: the clauses of this function.
                unsafe { munmap(self.base.cast(), len.get()) }.map_err(io_error)
            }
            Release::Detach => {
                // SAFETY: this value owns the attachment (`of_attachment`). It is not
                // used or released afterwards: the clauses of this function.
                let rc = unsafe { libc::shmdt(self.base.as_ptr().cast()) };
                Errno::result(rc).map(drop).map_err(io_error)
            }
        }
    }

    /// Returns the address and leaves the memory mapped until the process ends.
    pub(crate) fn leak(self) -> NonNull<u8> {
        std::mem::ManuallyDrop::new(self).base
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the value is dropped once, and not used afterwards.
        let _ = unsafe { self.release() };
    }
}

impl Access {
    fn protection(self) -> ProtFlags {
        match self {
            Self::ReadWrite => ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
            Self::ReadOnly => ProtFlags::PROT_READ,
        }
    }
}

/// Returns how many bytes this process may lock in memory, `None` if there is no limit:
/// `getrlimit(2)`, `RLIMIT_MEMLOCK`. The limit does not bind a process with
/// `CAP_IPC_LOCK`.
pub(crate) fn memory_lock_limit() -> Option<u64> {
    match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) if soft != RLIM_INFINITY => Some(soft),
        // It can't fail for a limit that exists.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::mem::Pages;
    use crate::os::mem::memfd;
    use std::fs::File;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32};

    const PAGES: usize = 5;

    /// Creates a file of `PAGES - 1` empty pages and one byte.
    fn file() -> (File, NonZeroUsize) {
        let file = File::from(memfd::create("shm-sync-mman-test", Pages::Normal).unwrap());
        let len = NonZeroUsize::new((PAGES - 1) * page_size() + 1).unwrap();
        file.set_len(len.get() as u64).unwrap();
        (file, len)
    }

    fn byte(mapping: &Mapping, offset: usize) -> u8 {
        let mut byte = [0];
        mapping.copy_to(&mut byte, offset);
        byte[0]
    }

    fn first_bytes(mapping: &Mapping) -> Vec<u8> {
        let pages = (0..mapping.len()).step_by(page_size());
        pages.map(|page| byte(mapping, page)).collect()
    }

    /// Writes a byte to each page of the file.
    fn write(file: &File, value: u8) {
        for page in 0..PAGES {
            let offset = page * page_size();
            file.write_all_at(&[value], offset as u64).unwrap();
        }
    }

    /// Returns whether the kernel is too old for `prefault`.
    fn is_unsupported(result: &io::Result<()>) -> bool {
        matches!(result, Err(error) if error.raw_os_error() == Some(libc::EINVAL))
    }

    #[test]
    fn smoke() {
        let (file, len) = file();
        let mapping = Mapping::of_file(&file, len).unwrap();
        assert_eq!(
            (mapping.len(), mapping.access()),
            (len.get(), Access::ReadWrite)
        );
        // SAFETY: the first byte is mapped and writable, and only this thread uses it.
        unsafe { mapping.base().write_volatile(9) };
        let mut seen = [0];
        file.read_exact_at(&mut seen, 0).unwrap();
        assert_eq!(seen, [9]);
        mapping.sync().unwrap();
    }

    #[test]
    fn read_only_mapping_needs_no_write_permission() {
        let (file, len) = file();
        write(&file, 3);
        let reader = memfd::reopen(&file, Access::ReadOnly).unwrap();
        let refused = Mapping::of_file_with(&reader, len, Access::ReadWrite).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
        let mapping = Mapping::of_file_with(&reader, len, Access::ReadOnly).unwrap();
        assert_eq!(mapping.access(), Access::ReadOnly);
        assert_eq!(first_bytes(&mapping), [3; PAGES]);
        assert!(mapping.prefault(Access::ReadWrite).is_err());
    }

    #[test]
    fn private_copy_is_independent_of_the_file() {
        let (file, len) = file();
        write(&file, 1);
        let reader = memfd::reopen(&file, Access::ReadOnly).unwrap();
        let mapping = Mapping::private_of_file(&reader, len).unwrap();
        assert_eq!(first_bytes(&mapping), [1; PAGES]);
        write(&file, 2);
        assert_eq!(first_bytes(&mapping), [2; PAGES], "no copy yet");
        // SAFETY: no other thread has the mapping, and the file is long enough.
        unsafe { mapping.break_copy_on_write() };
        write(&file, 3);
        assert_eq!(first_bytes(&mapping), [2; PAGES]);
    }

    #[test]
    fn copy_to_ends_at_the_mappings_end() {
        let (file, len) = file();
        file.write_all_at(b"abcd", 3).unwrap();
        let mapping = Mapping::of_file_with(&file, len, Access::ReadOnly).unwrap();
        let mut bytes = [9; 4];
        mapping.copy_to(&mut bytes, 4);
        assert_eq!(&bytes, b"bcd\0");
        mapping.copy_to(&mut bytes, len.get() - 4);
        mapping.copy_to(&mut [], len.get());
        for offset in [len.get() - 3, usize::MAX] {
            let past = std::panic::catch_unwind(|| mapping.copy_to(&mut [0; 4], offset));
            assert!(past.is_err());
        }
    }

    #[test]
    fn get_checks_bounds_and_alignment() {
        let len = NonZeroUsize::new(20).unwrap();
        let mapping = Mapping::private(len).unwrap();
        let word: &AtomicU32 = mapping.get(16).unwrap();
        word.store(u32::from_le_bytes(*b"word"), Ordering::Relaxed);
        let pair: &[AtomicU64; 2] = mapping.get(0).unwrap();
        pair[1].store(1, Ordering::Relaxed);
        let mut bytes = [0; 20];
        mapping.copy_to(&mut bytes, 0);
        assert_eq!(&bytes[16..], b"word", "the same bytes");
        assert_eq!(bytes[8..16], 1_u64.to_ne_bytes(), "the same bytes");
        assert!(mapping.get::<AtomicU8>(19).is_some(), "the last byte");
        assert!(mapping.get::<AtomicU8>(20).is_none(), "past the end");
        assert!(mapping.get::<AtomicU64>(16).is_none(), "half past the end");
        assert!(mapping.get::<AtomicU16>(3).is_none(), "not aligned");
        assert!(
            mapping.get::<AtomicU32>(usize::MAX - 3).is_none(),
            "too far"
        );
    }

    #[test]
    fn writes_to_a_private_copy_stay_private() {
        let (file, len) = file();
        let mapping = Mapping::private_of_file(&file, len).unwrap();
        // SAFETY: the first byte is mapped and writable, and only this thread uses it.
        unsafe { mapping.base().write_volatile(9) };
        let mut seen = [7];
        file.read_exact_at(&mut seen, 0).unwrap();
        assert_eq!(seen, [0]);
    }

    #[test]
    #[should_panic(expected = "a copy is writable")]
    fn break_copy_on_write_refuses_read_only() {
        let (file, len) = file();
        let mapping = Mapping::of_file_with(&file, len, Access::ReadOnly).unwrap();
        // SAFETY: no other thread has the mapping, and the file is long enough. The
        // call panics before any access.
        unsafe { mapping.break_copy_on_write() };
    }

    #[test]
    fn prefault_brings_every_page_in() {
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let (file, len) = file();
            let mapping = Mapping::of_file(&file, len).unwrap();
            assert_eq!(mapping.resident_pages().unwrap(), 0);
            let result = mapping.prefault(access);
            if is_unsupported(&result) {
                return;
            }
            result.unwrap();
            assert_eq!(mapping.resident_pages().unwrap(), PAGES);
        }
    }

    #[test]
    fn prefault_of_short_file_is_an_error() {
        let (file, len) = file();
        let mapping = Mapping::of_file(&file, len).unwrap();
        file.set_len(page_size() as u64).unwrap();
        assert!(mapping.prefault(Access::ReadOnly).is_err());
        assert!(mapping.lock_in_memory().is_err());
    }

    #[test]
    fn locked_pages_are_resident() {
        let (file, len) = file();
        let mapping = Mapping::of_file(&file, len).unwrap();
        if memory_lock_limit().is_some_and(|limit| limit < 1 << 16) {
            return; // the limit is too low
        }
        mapping.lock_in_memory().unwrap();
        assert_eq!(mapping.resident_pages().unwrap(), PAGES);
    }

    #[test]
    fn resident_pages_exceed_one_batch() {
        let (file, _) = file();
        let pages = 4096 + 3;
        let len = NonZeroUsize::new(pages * page_size()).unwrap();
        file.set_len(len.get() as u64).unwrap();
        let mapping = Mapping::of_file(&file, len).unwrap();
        let last = (pages - 1) * page_size();
        file.write_all_at(&[1], last as u64).unwrap();
        file.write_all_at(&[1], 0).unwrap();
        let resident = mapping.resident_pages().unwrap();
        // Two, unless the machine uses huge pages for such files without being asked.
        assert!((2..=pages).contains(&resident));
    }

    #[test]
    fn huge_pages_are_unmapped_completely() {
        let Ok(huge) = huge_page_size() else { return };
        let Ok(file) = memfd::create("shm-sync-mman-test", Pages::Huge) else {
            return;
        };
        let file = File::from(file);
        file.set_len(huge.get() as u64).unwrap();
        let len = NonZeroUsize::new(5000).unwrap();
        // Fails if the administrator has reserved none.
        let Ok(mapping) = Mapping::of_file(&file, len) else {
            return;
        };
        assert_eq!(mapping.len(), len.get());
        assert_eq!(byte(&mapping, 0), 0);
        let line = format!("{:x}-", mapping.base().addr());
        let is_mapped = || {
            let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
            maps.lines()
                .any(|at| at.starts_with(&line) && at.contains("shm-sync-mman-test"))
        };
        assert!(is_mapped());
        drop(mapping);
        assert!(!is_mapped());
    }
}
