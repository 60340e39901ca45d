//! Mappings, owned, and the memory behind them.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::sys::mman::{
    MapFlags, MmapAdvise, MsFlags, ProtFlags, madvise, mlock, mmap, mmap_anonymous, msync, munmap,
};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::atomic_copy;
use super::pages::{MIN_PAGE, huge_page_size, page_size, round_up_to_huge_pages};
use crate::os::{io_error, retry_on_eintr};

/// What [`Mapping::break_copy_on_write`] adds to each page.
static ZERO: u64 = 0;

/// What a process may do with memory that it has mapped.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only: a write is a `SIGSEGV`.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

/// Types that [`Mapping::get`] finds in memory that other processes may change.
///
/// # Safety
///
/// * Every sequence of `size_of::<Self>()` bytes is a valid value.
/// * All bytes are in `UnsafeCell`s, as in atomics. Safe methods read and change them
///   by atomic operations alone.
pub(crate) unsafe trait AnyBytes {}

// SAFETY: every integer is a valid value, and the methods are atomic.
unsafe impl AnyBytes for AtomicU8 {}
// SAFETY: every integer is a valid value, and the methods are atomic.
unsafe impl AnyBytes for AtomicU16 {}
// SAFETY: every integer is a valid value, and the methods are atomic.
unsafe impl AnyBytes for AtomicU32 {}
// SAFETY: every integer is a valid value, and the methods are atomic.
unsafe impl AnyBytes for AtomicU64 {}
// SAFETY: an array consists of its elements, without padding.
unsafe impl<T: AnyBytes, const N: usize> AnyBytes for [T; N] {}

/// A mapping of this process, unmapped when dropped.
///
/// Holding one proves that `len` bytes from `base` are mapped and readable, that
/// they are writable if [`access`](Self::access) says so, and that nobody else
/// in this process will unmap them. Whoever hands out the memory of one that is
/// [`Access::ReadOnly`] hands it out for reading only.
///
/// A file must be no shorter than its mapping: a touch beyond its end is a
/// `SIGBUS`.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: NonZeroUsize,
    access: Access,
    release: Release,
}

/// How a mapping ends.
#[derive(Clone, Copy, Debug)]
enum Release {
    /// `munmap` of so many bytes: whole pages, if they are huge.
    Unmap(NonZeroUsize),
    /// `shmdt`.
    Detach,
}

// SAFETY: a mapping belongs to the process, not to a thread; the type hands out
// only its raw address.
unsafe impl Send for Mapping {}
// SAFETY: as for Send; the one method that touches the memory through `&self`
// is unsafe and says what it asks of other threads.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// [`mmap(2)`](https://man7.org/linux/man-pages/man2/mmap.2.html) of the
    /// first `len` bytes of `fd`, `MAP_SHARED`, for reading and writing.
    pub(crate) fn of_file(fd: impl AsFd, len: NonZeroUsize) -> io::Result<Self> {
        Self::of_file_with(fd, len, Access::ReadWrite)
    }

    /// [`mmap(2)`](https://man7.org/linux/man-pages/man2/mmap.2.html) of the
    /// first `len` bytes of `fd`, `MAP_SHARED`.
    pub(crate) fn of_file_with(
        fd: impl AsFd,
        len: NonZeroUsize,
        access: Access,
    ) -> io::Result<Self> {
        Self::map_file(fd, len, access, MapFlags::MAP_SHARED)
    }

    /// [`mmap(2)`](https://man7.org/linux/man-pages/man2/mmap.2.html) of the
    /// first `len` bytes of `fd`, `MAP_PRIVATE`: writable, and a page becomes our
    /// own copy when it is first written. Until then it shows what others write
    /// to the file. `fd` need be open for reading only.
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
        // SAFETY: no address is asked for, so the kernel picks a free range and
        // no existing mapping is replaced.
        let base = unsafe { mmap(None, mapped, access.protection(), sharing, fd, 0) };
        Ok(Self {
            base: base.map_err(io_error)?.cast(),
            len,
            access,
            release: Release::Unmap(mapped),
        })
    }

    /// What [`shmat(2)`](https://man7.org/linux/man-pages/man2/shmop.2.html) made.
    ///
    /// # Safety
    ///
    /// * A System V segment is attached at `base`, for `access`.
    /// * It has `len` bytes.
    /// * Nobody else will detach it.
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

    /// [`mmap(2)`](https://man7.org/linux/man-pages/man2/mmap.2.html),
    /// `MAP_PRIVATE | MAP_ANONYMOUS`: zeros, for this process alone.
    pub(crate) fn private(len: NonZeroUsize) -> io::Result<Self> {
        Self::without_file(len, MapFlags::MAP_PRIVATE)
    }

    /// A private page of zeros that the kernel zeroes again in every forked
    /// child ([`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html),
    /// `MADV_WIPEONFORK`, Linux 4.14).
    pub(crate) fn wiped_on_fork() -> io::Result<Self> {
        let len = NonZeroUsize::new(MIN_PAGE).expect("a page is not empty");
        let page = Self::private(len)?;
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
        let access = Access::ReadWrite;
        // SAFETY: as in `map_file`.
        let base = unsafe { mmap_anonymous(None, len, access.protection(), sharing) };
        Ok(Self {
            base: base.map_err(io_error)?.cast(),
            len,
            access,
            release: Release::Unmap(len),
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

    /// What the memory may be used for.
    pub(crate) fn access(&self) -> Access {
        self.access
    }

    /// [`mlock(2)`](https://man7.org/linux/man-pages/man2/mlock.2.html): brings
    /// every page in and keeps it there while this mapping lives.
    ///
    /// Belongs to this process: forked children don't inherit it. Counts against
    /// [`memory_lock_limit`] (`ENOMEM`, or `EPERM` if that is 0).
    pub(crate) fn lock_in_memory(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping; its content does not change.
        retry_on_eintr(|| unsafe { mlock(self.base.cast(), self.len()) })
    }

    /// [`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html),
    /// `MADV_POPULATE_READ` or `MADV_POPULATE_WRITE` (Linux 5.14; `EINVAL`
    /// before): brings every page in, so that a first touch of this kind meets
    /// no page fault. What can't be had is an error (`EFAULT` for a file that
    /// is too short) instead of a signal. The content does not change.
    pub(crate) fn prefault(&self, access: Access) -> io::Result<()> {
        let advice = match access {
            Access::ReadWrite => MmapAdvise::MADV_POPULATE_WRITE,
            Access::ReadOnly => MmapAdvise::MADV_POPULATE_READ,
        };
        // SAFETY: the range is this mapping, and this advice leaves its content
        // as it is.
        retry_on_eintr(|| unsafe { madvise(self.base.cast(), self.len(), advice) })
    }

    /// [`madvise(2)`](https://man7.org/linux/man-pages/man2/madvise.2.html),
    /// `MADV_DONTDUMP`: leaves the memory out of core dumps of this process, and of
    /// children that it forks from now on.
    pub(crate) fn exclude_from_core_dumps(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping, or the huge pages that it begins, which
        // are attached with it; this advice leaves their content as it is.
        let advise = |len| unsafe { madvise(self.base.cast(), len, MmapAdvise::MADV_DONTDUMP) };
        let len = match self.release {
            Release::Unmap(len) => len.get(),
            Release::Detach => self.len(),
        };
        let mut result = advise(len);
        if result == Err(Errno::EINVAL) {
            // A System V segment of huge pages takes the advice for whole ones only.
            let page = huge_page_size()?.get();
            result = advise(len.next_multiple_of(page));
        }
        result.map_err(io_error)
    }

    /// [`msync(2)`](https://man7.org/linux/man-pages/man2/msync.2.html),
    /// `MS_SYNC`: comes back when what was written is on the file's device.
    /// Nothing to do for files that live in memory.
    pub(crate) fn sync(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping; its content does not change.
        retry_on_eintr(|| unsafe { msync(self.base.cast(), self.len(), MsFlags::MS_SYNC) })
    }

    /// Makes a private mapping independent of its file: a write to each page, which
    /// changes nothing, lets the kernel copy it now.
    ///
    /// # Panics
    ///
    /// If the mapping is read-only.
    ///
    /// # Safety
    ///
    /// * No other thread of this process uses the memory meanwhile, except by
    ///   atomic operations on aligned words of eight bytes.
    /// * The file is as long as the mapping.
    pub(crate) unsafe fn break_copy_on_write(&self) {
        assert_eq!(self.access, Access::ReadWrite, "a copy is writable");
        // Read by a volatile read, or else the compiler would know that nothing is
        // changed, and leave the writes out.
        // SAFETY: a static is valid for reads.
        let nothing = unsafe { (&raw const ZERO).read_volatile() };
        for page in (0..self.len()).step_by(page_size()) {
            let at = self.base.as_ptr().wrapping_add(page);
            // SAFETY:
            // * Valid and aligned: a page is mapped to its end, even if the mapping ends
            //   inside its first word.
            // * Other threads use it atomically if at all: the caller's first promise.
            let word = unsafe { AtomicU64::from_ptr(at.cast()) };
            // One step, so that no byte that another process has just changed is
            // overwritten by what it was.
            word.fetch_or(nothing, Ordering::Relaxed);
        }
    }

    /// [`mincore(2)`](https://man7.org/linux/man-pages/man2/mincore.2.html): how
    /// many pages of the file, of those mapped, are in memory.
    pub(crate) fn resident_pages(&self) -> io::Result<usize> {
        /// Pages that are asked about at a time.
        const BATCH: usize = 4096;
        let mut answers = [0_u8; BATCH];
        let mut resident = 0;
        let step = BATCH * page_size();
        for start in (0..self.len()).step_by(step) {
            let len = step.min(self.len() - start);
            let at = self.base.as_ptr().wrapping_add(start);
            // SAFETY: the range is part of this mapping, and the buffer has a byte
            // for each of its pages.
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

    /// Returns the `T` that begins `offset` bytes into the mapping. `None` if it is not
    /// all inside the mapping, or not aligned there.
    ///
    /// A write to a `T` in a mapping that is [`Access::ReadOnly`] is a `SIGSEGV`.
    pub(crate) fn get<T: AnyBytes>(&self, offset: usize) -> Option<&T> {
        let end = offset.checked_add(size_of::<T>())?;
        let value = self.base.as_ptr().wrapping_add(offset).cast::<T>();
        if end > self.len() || !value.is_aligned() {
            return None;
        }
        // SAFETY:
        // * Not null, aligned and all inside the mapping: as just checked.
        // * A valid value, and no data race with a change by others: `AnyBytes`.
        // * Mapped for as long as the reference lives, which borrows `self`.
        Some(unsafe { &*value })
    }

    /// Copies the bytes from `offset` on, while others may write them: see
    /// [`atomic_copy::copy`].
    ///
    /// # Panics
    ///
    /// If they are not all inside the mapping.
    pub(crate) fn copy_to(&self, buffer: &mut [u8], offset: usize) {
        let end = offset.checked_add(buffer.len());
        assert!(
            end.is_some_and(|end| end <= self.len()),
            "inside the mapping"
        );
        // SAFETY: inside the mapping, as just checked.
        let from = unsafe { self.base.add(offset) };
        // SAFETY: mapped and readable for as many bytes as the buffer has.
        unsafe { atomic_copy::copy_relaxed(from.as_ptr(), buffer.as_mut_ptr(), buffer.len()) };
    }

    /// Gives up ownership: the memory stays mapped for the life of the process.
    pub(crate) fn leak(self) -> NonNull<u8> {
        std::mem::ManuallyDrop::new(self).base
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Neither call can fail: address and length are the kernel's own.
        match self.release {
            Release::Unmap(len) => {
                // SAFETY: the range was mapped by a constructor and never given
                // away.
                let _ = unsafe { munmap(self.base.cast(), len.get()) };
            }
            Release::Detach => {
                // SAFETY: `of_attachment` was promised an attachment that is
                // ours to end.
                unsafe { libc::shmdt(self.base.as_ptr().cast()) };
            }
        }
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

/// [`getrlimit(2)`](https://man7.org/linux/man-pages/man2/getrlimit.2.html),
/// `RLIMIT_MEMLOCK`: how many bytes this process may lock in memory. `None`: no
/// limit. The limit does not bind who has `CAP_IPC_LOCK`.
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

    const PAGES: usize = 5;

    /// A file of so many empty pages and one byte.
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

    /// Writes to the file's every page.
    fn write(file: &File, value: u8) {
        for page in 0..PAGES {
            let offset = page * page_size();
            file.write_all_at(&[value], offset as u64).unwrap();
        }
    }

    /// Whether the kernel is too old for `prefault`.
    fn is_missing(result: &io::Result<()>) -> bool {
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
        // SAFETY: the first byte is mapped, writable, and this thread's alone.
        unsafe { mapping.base().write_volatile(9) };
        let mut seen = [0];
        file.read_exact_at(&mut seen, 0).unwrap();
        assert_eq!(seen, [9]);
        mapping.sync().unwrap();
    }

    #[test]
    fn a_reader_needs_no_right_to_write() {
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
    fn a_copy_no_longer_follows_the_file() {
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
    fn bytes_are_copied_up_to_the_end_and_not_past_it() {
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
    fn get_returns_only_aligned_values_inside_the_mapping() {
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
    fn what_is_written_to_a_copy_stays_there() {
        let (file, len) = file();
        let mapping = Mapping::private_of_file(&file, len).unwrap();
        // SAFETY: the first byte is mapped, writable, and this thread's alone.
        unsafe { mapping.base().write_volatile(9) };
        let mut seen = [7];
        file.read_exact_at(&mut seen, 0).unwrap();
        assert_eq!(seen, [0]);
    }

    #[test]
    #[should_panic(expected = "a copy is writable")]
    fn a_read_only_mapping_is_not_copied() {
        let (file, len) = file();
        let mapping = Mapping::of_file_with(&file, len, Access::ReadOnly).unwrap();
        // SAFETY: as above; and it comes to no access at all.
        unsafe { mapping.break_copy_on_write() };
    }

    #[test]
    fn pages_come_in_before_the_first_touch() {
        for access in [Access::ReadOnly, Access::ReadWrite] {
            let (file, len) = file();
            let mapping = Mapping::of_file(&file, len).unwrap();
            assert_eq!(mapping.resident_pages().unwrap(), 0);
            let result = mapping.prefault(access);
            if is_missing(&result) {
                return;
            }
            result.unwrap();
            assert_eq!(mapping.resident_pages().unwrap(), PAGES);
        }
    }

    #[test]
    fn a_short_file_is_an_error_and_no_signal() {
        let (file, len) = file();
        let mapping = Mapping::of_file(&file, len).unwrap();
        file.set_len(page_size() as u64).unwrap();
        assert!(mapping.prefault(Access::ReadOnly).is_err());
        assert!(mapping.lock_in_memory().is_err());
    }

    #[test]
    fn locked_pages_are_in_memory() {
        let (file, len) = file();
        let mapping = Mapping::of_file(&file, len).unwrap();
        if memory_lock_limit().is_some_and(|limit| limit < 1 << 16) {
            return; // this user may lock next to nothing
        }
        mapping.lock_in_memory().unwrap();
        assert_eq!(mapping.resident_pages().unwrap(), PAGES);
    }

    #[test]
    fn residency_is_counted_across_the_buffers_end() {
        let (file, _) = file();
        let pages = 4096 + 3;
        let len = NonZeroUsize::new(pages * page_size()).unwrap();
        file.set_len(len.get() as u64).unwrap();
        let mapping = Mapping::of_file(&file, len).unwrap();
        let last = (pages - 1) * page_size();
        file.write_all_at(&[1], last as u64).unwrap();
        file.write_all_at(&[1], 0).unwrap();
        let resident = mapping.resident_pages().unwrap();
        // Two, unless the machine gives such files huge pages unasked.
        assert!((2..=pages).contains(&resident));
    }

    #[test]
    fn huge_pages_are_unmapped_whole() {
        let Ok(huge) = huge_page_size() else { return };
        let Ok(file) = memfd::create("shm-sync-mman-test", Pages::Huge) else {
            return;
        };
        let file = File::from(file);
        file.set_len(huge.get() as u64).unwrap();
        let len = NonZeroUsize::new(5000).unwrap();
        // Only where the administrator set some aside.
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
