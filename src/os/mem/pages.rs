//! The pages that memory is made of, and their sizes.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};

use crate::os::io_error;

/// The strictest alignment that the base of every mapping has: the smallest
/// page size of any Linux.
pub(crate) const MIN_PAGE: usize = 4096;

/// Which pages a new segment consists of.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pages {
    /// The usual ones: `sysconf(_SC_PAGESIZE)`, mostly 4096 bytes.
    #[default]
    Normal,
    /// Huge ones, from the pool that the administrator has reserved: anonymous and
    /// System V segments only ([`Error::Unsupported`](crate::Error::Unsupported)
    /// elsewhere). [`Error::NoHugePages`](crate::Error::NoHugePages) if too few are
    /// free.
    Huge,
}

/// [`sysconf(3)`](https://man7.org/linux/man-pages/man3/sysconf.3.html),
/// `_SC_PAGESIZE`: the size of a normal page, in bytes.
pub(crate) fn page_size() -> usize {
    // SAFETY: the call takes and returns numbers only.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).map_or(MIN_PAGE, |size| size.max(MIN_PAGE))
}

/// [`proc_meminfo(5)`](https://man7.org/linux/man-pages/man5/proc_meminfo.5.html),
/// `Hugepagesize`: the size in bytes of the huge pages that are given out
/// unless one asks for another. `ErrorKind::Unsupported` if there are none.
pub(crate) fn huge_page_size() -> io::Result<NonZeroUsize> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    parse_huge_page_size(&text).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// The length in whole huge pages, if `file` is made of them: `munmap` takes no
/// other. The kernel itself rounds up that of normal pages.
pub(super) fn round_up_to_huge_pages(
    file: impl AsFd,
    len: NonZeroUsize,
) -> io::Result<NonZeroUsize> {
    let page = match fstatfs(&file) {
        Ok(system) if system.filesystem_type() != HUGETLBFS_MAGIC => return Ok(len),
        Ok(system) => system.block_size(),
        // A sandbox may refuse the question. Each file of huge pages has their size as
        // its block size. Other block sizes make the mapping end behind the file,
        // where nothing looks.
        Err(_) => fstat(&file).map_err(io_error)?.st_blksize,
    };
    usize::try_from(page)
        .ok()
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
    fn the_size_of_huge_pages_is_read_or_refused() {
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
