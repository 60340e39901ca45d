//! Normal and huge pages, and their sizes.
//!
//! Manual pages: [`sysconf(3)`], [`proc_meminfo(5)`].
//!
//! [`sysconf(3)`]: https://man7.org/linux/man-pages/man3/sysconf.3.html
//! [`proc_meminfo(5)`]: https://man7.org/linux/man-pages/man5/proc_meminfo.5.html

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};

use crate::os::io_error;

/// The smallest page size of any Linux, in bytes. The base of every mapping is aligned
/// to it.
pub(crate) const MIN_PAGE: usize = 4096;

/// Which pages a new segment consists of: see
/// [`SegmentOptions::pages`](crate::SegmentOptions::pages).
///
/// In the guide: [options](crate::guide#options).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pages {
    /// Pages of the usual size: `sysconf(_SC_PAGESIZE)`, mostly 4096 bytes.
    #[default]
    Normal,
    /// Huge pages from the pool that the administrator has reserved. Only anonymous and
    /// System V segments support them. Creating any other segment fails with
    /// [`Error::Unsupported`](crate::Error::Unsupported). If too few pages are free,
    /// the error is [`Error::NoHugePages`](crate::Error::NoHugePages).
    Huge,
}

/// Returns the size of a normal page in bytes: `sysconf(3)`, `_SC_PAGESIZE`.
pub(crate) fn page_size() -> usize {
    // SAFETY: the call takes and returns numbers only.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).map_or(MIN_PAGE, |size| size.max(MIN_PAGE))
}

/// Returns the default size of huge pages in bytes: `proc_meminfo(5)`, `Hugepagesize`.
/// The error is `ErrorKind::Unsupported` if the kernel has no huge pages.
pub(crate) fn huge_page_size() -> io::Result<NonZeroUsize> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    parse_huge_page_size(&text).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Rounds `len` up to whole huge pages if `file` consists of such pages, because
/// `munmap` accepts no other length. The kernel rounds lengths of normal pages up
/// itself.
pub(super) fn round_up_to_huge_pages(
    file: impl AsFd,
    len: NonZeroUsize,
) -> io::Result<NonZeroUsize> {
    let page = match fstatfs(&file) {
        Ok(system) if system.filesystem_type() != HUGETLBFS_MAGIC => return Ok(len),
        Ok(system) => usize::try_from(system.block_size()),
        // A sandbox may refuse `fstatfs`. The block size of each file of huge pages is
        // their size. For other files, the mapping then exceeds the file, but this
        // crate accesses only `len` bytes.
        Err(_) => usize::try_from(fstat(&file).map_err(io_error)?.st_blksize),
    };
    page.ok()
        .and_then(|page| len.get().checked_next_multiple_of(page))
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| io_error(Errno::ENOMEM))
}

fn parse_huge_page_size(meminfo: &str) -> Option<NonZeroUsize> {
    let mut lines = meminfo.lines();
    let size = lines.find_map(|line| line.strip_prefix("Hugepagesize:"))?;
    let kibibytes: usize = size.trim().strip_suffix(" kB")?.trim_end().parse().ok()?;
    NonZeroUsize::new(kibibytes.checked_mul(1024)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        assert!(page_size().is_power_of_two());
        if let Ok(size) = huge_page_size() {
            assert!(size.get() > page_size());
        }
    }

    #[test]
    fn huge_page_size_is_read_or_refused() {
        let size = |text| parse_huge_page_size(text).map(NonZeroUsize::get);
        let text = "HugePages_Surp:        0\nHugepagesize:    2048 kB\nHugetlb: 0 kB\n";
        assert_eq!(size(text), Some(2 << 20));
        let others = [
            "",
            "MemTotal: 5 kB",
            "Hugepagesize:",
            "Hugepagesize: kB",
            "Hugepagesize: 2048",
            "Hugepagesize: -1 kB",
            "Hugepagesize: 0 kB",
            "Hugepagesize: 18446744073709551615 kB",
        ];
        for text in others {
            assert_eq!(size(text), None, "{text:?}");
        }
    }
}
