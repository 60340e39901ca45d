//! Descriptors that stay apart from those of the program: none has the number of
//! standard input, output or error, and none is used after the program closed it.
//!
//! Every descriptor that this crate opens for writing, or keeps, passes through
//! [`above_standard`] or [`CheckedFd`]. (`try_clone` of std never takes a low number.) What
//! it opens for reading only, and closes before the call returns (lists in `/proc`,
//! directories), may have a low number for that moment: a `println!` of another thread
//! then fails, as without standard output.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::{Mode, fstat};

use super::io_error;

/// The first number after standard input, output and error.
const FIRST: RawFd = 3;

/// Returns the descriptor that `open` makes, with a number of at least 3.
///
/// A daemon may run without standard output. The next file that it opens then becomes
/// its standard output, and `println!` writes into that file. So the free numbers are
/// filled before `open` runs, with descriptors through which nothing can be written.
pub(crate) fn above_standard(open: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    let _fillers = fill_standard();
    // Another thread may have closed its standard output meanwhile.
    move_above_standard(open()?)
}

/// Takes every free number below 3. If the process has no descriptor left, that is the
/// error of the `open` that follows.
fn fill_standard() -> Vec<OwnedFd> {
    let mut fillers = Vec::new();
    while (0..FIRST).any(is_free) {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match open("/", flags, Mode::empty()) {
            Ok(filler) if filler.as_raw_fd() < FIRST => fillers.push(filler),
            _ => break,
        }
    }
    fillers
}

/// [`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl.2.html), `F_GETFD`:
/// whether the number is no descriptor.
fn is_free(number: RawFd) -> bool {
    // SAFETY: takes numbers only, whatever they are; changes nothing.
    unsafe { libc::fcntl(number, libc::F_GETFD) == -1 }
}

/// [`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl.2.html),
/// `F_DUPFD_CLOEXEC`: moves a descriptor whose number is below 3.
fn move_above_standard(file: OwnedFd) -> io::Result<OwnedFd> {
    if file.as_raw_fd() >= FIRST {
        return Ok(file);
    }
    let number = fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(FIRST)).map_err(io_error)?;
    // SAFETY: the kernel made it just now, for this caller alone.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Device and inode number of the file behind a descriptor, as `stat` shows them.
fn identity(file: impl AsFd) -> io::Result<(u64, u64)> {
    let facts = fstat(file).map_err(io_error)?;
    Ok((facts.st_dev, facts.st_ino))
}

/// A descriptor that is kept for long, of a file that is mapped for as long.
///
/// Daemons close all descriptors from 3 on (`closefrom`, `close_range`), those of their
/// libraries included, and open files of their own under these numbers. So the number
/// is lent, and closed, only while it leads to the file that it was made for.
///
/// What this can't tell apart: a descriptor that the program itself opened of the very
/// same file, and that got the number.
#[derive(Debug)]
pub(crate) struct CheckedFd {
    number: RawFd,
    identity: (u64, u64),
}

impl CheckedFd {
    /// Keeps a descriptor, under a number of at least 3.
    pub(crate) fn new(file: OwnedFd) -> io::Result<Self> {
        let file = move_above_standard(file)?;
        Ok(Self {
            identity: identity(&file)?,
            number: file.into_raw_fd(),
        })
    }

    /// Device and inode number of the file, as `stat` shows them.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Returns the descriptor; `EBADF` if it was closed, or is another file's by now.
    pub(crate) fn get(&self) -> io::Result<BorrowedFd<'_>> {
        let lost = || io_error(Errno::EBADF);
        if is_free(self.number) {
            return Err(lost());
        }
        // SAFETY: the number is an open descriptor, as the kernel said just now. A
        // program that closes it between this call and the use of the result has
        // broken the rule of std that a descriptor is closed by its owner.
        let file = unsafe { BorrowedFd::borrow_raw(self.number) };
        match identity(file)? == self.identity {
            true => Ok(file),
            false => Err(lost()),
        }
    }
}

impl Drop for CheckedFd {
    fn drop(&mut self) {
        if self.get().is_ok() {
            // SAFETY: it is open and leads to the file that this value owned a
            // descriptor of; nobody uses this value afterwards.
            drop(unsafe { OwnedFd::from_raw_fd(self.number) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn file() -> OwnedFd {
        File::open("/proc/self/exe").unwrap().into()
    }

    #[test]
    fn smoke() {
        let kept = CheckedFd::new(file()).unwrap();
        let lent = kept.get().unwrap();
        assert!(lent.as_raw_fd() >= FIRST);
        assert_eq!(identity(lent).unwrap(), kept.identity());
        let number = kept.number;
        drop(kept);
        // Another test may have got the number since.
        let now = std::fs::read_link(format!("/proc/self/fd/{number}"));
        let exe = std::env::current_exe().unwrap();
        assert!(now.map_or(true, |now| now != exe), "it is closed");
    }

    #[test]
    fn a_foreign_number_is_neither_lent_nor_closed() {
        let foreign = File::open("/dev/null").unwrap();
        let kept = CheckedFd {
            number: foreign.as_raw_fd(),
            identity: identity(file()).unwrap(),
        };
        assert!(kept.get().is_err());
        drop(kept);
        assert!(foreign.metadata().is_ok());
    }

    #[test]
    fn a_closed_number_is_not_lent() {
        let kept = CheckedFd {
            number: 1 << 29,
            identity: (0, 0),
        };
        assert!(kept.get().is_err());
    }
}
