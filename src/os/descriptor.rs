//! Descriptors with numbers above those of standard input, output and error, and checks
//! that a descriptor still leads to its file.
//!
//! Every descriptor that this crate opens for writing, or keeps, passes through
//! [`above_standard`] or [`CheckedFd`]. (`try_clone` of std returns numbers from 3 on.)
//! Descriptors that this crate only reads, and closes before the call returns, may have
//! a low number: those of lists in `/proc` and of directories. A `println!` of another
//! thread then fails during that time, as it does without standard output.
//!
//! Manual page: [`fcntl(2)`].
//!
//! [`fcntl(2)`]: https://man7.org/linux/man-pages/man2/fcntl.2.html

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;

use super::io_error;

/// The first number after standard input, output and error.
const FIRST: RawFd = 3;

/// Calls `open` and returns its descriptor with a number of at least 3.
///
/// A daemon may run without standard output. The next file that it opens then becomes
/// its standard output, and `println!` writes into that file. Therefore this function
/// fills the free numbers before it calls `open`. Nothing can be written through the
/// fillers.
pub(crate) fn above_standard(open: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
    let _fillers = fill_standard();
    // Another thread may have closed its standard output meanwhile.
    move_above_standard(open()?)
}

/// Opens a descriptor for every free number below 3. If the process may open no more
/// files, the `open` that follows reports it.
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

/// Returns whether no descriptor has the number: `fcntl(2)`, `F_GETFD`.
fn is_free(number: RawFd) -> bool {
    // SAFETY: the call accepts any number and changes nothing.
    unsafe { libc::fcntl(number, libc::F_GETFD) == -1 }
}

/// Replaces a descriptor with a number below 3 by a copy with a higher number:
/// `fcntl(2)`, `F_DUPFD_CLOEXEC`.
fn move_above_standard(file: OwnedFd) -> io::Result<OwnedFd> {
    if file.as_raw_fd() >= FIRST {
        return Ok(file);
    }
    let number = fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(FIRST)).map_err(io_error)?;
    // SAFETY: the kernel has just created the descriptor, and no other code owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Returns the device and inode number of the file, as `stat` shows them: `fstat(2)`.
/// The error is `EBADF` if no descriptor has the number.
fn identity_of(number: RawFd) -> io::Result<(u64, u64)> {
    let mut stat = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the call accepts any number, and `stat` is valid for writes.
    let rc = unsafe { libc::fstat(number, stat.as_mut_ptr()) };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has succeeded, so it has written all fields.
    let stat = unsafe { stat.assume_init() };
    Ok((stat.st_dev, stat.st_ino))
}

/// A descriptor that is kept as long as a mapping of its file.
///
/// Daemons close all descriptors from 3 on (`closefrom`, `close_range`), also those of
/// their libraries, and then open other files under these numbers. Therefore this type
/// returns or closes the number only while it leads to the original file.
///
/// If the program itself opens the same file and gets the same number, this type cannot
/// notice it.
#[derive(Debug)]
pub(crate) struct CheckedFd {
    number: RawFd,
    identity: (u64, u64),
}

impl CheckedFd {
    /// Keeps a descriptor with a number of at least 3. `identity` is the device and
    /// inode number of its file.
    pub(crate) fn new(file: OwnedFd, identity: (u64, u64)) -> io::Result<Self> {
        let number = move_above_standard(file)?.into_raw_fd();
        Ok(Self { number, identity })
    }

    /// Returns the device and inode number of the file, as `stat` shows them.
    pub(crate) fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Returns the descriptor. The error is `EBADF` if the number was closed or now
    /// leads to another file.
    pub(crate) fn get(&self) -> io::Result<BorrowedFd<'_>> {
        if identity_of(self.number)? != self.identity {
            return Err(io_error(Errno::EBADF));
        }
        // SAFETY: the number is an open descriptor, as checked above. A program that
        // closes it before the result is used violates the rule of std that only the
        // owner closes a descriptor.
        Ok(unsafe { BorrowedFd::borrow_raw(self.number) })
    }
}

impl Drop for CheckedFd {
    fn drop(&mut self) {
        if self.get().is_ok() {
            // SAFETY: the number is open and leads to the file of which this value owns
            // a descriptor. No code uses this value afterwards.
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
        let file = file();
        let identity = identity_of(file.as_raw_fd()).unwrap();
        let kept = CheckedFd::new(file, identity).unwrap();
        let lent = kept.get().unwrap();
        assert!(lent.as_raw_fd() >= FIRST);
        assert_eq!(identity_of(lent.as_raw_fd()).unwrap(), kept.identity());
        let number = kept.number;
        drop(kept);
        // Another test may have the number now.
        let now = std::fs::read_link(format!("/proc/self/fd/{number}"));
        let exe = std::env::current_exe().unwrap();
        assert!(now.map_or(true, |now| now != exe), "it is closed");
    }

    #[test]
    fn other_files_number_is_not_returned_or_closed() {
        let foreign = File::open("/dev/null").unwrap();
        let kept = CheckedFd {
            number: foreign.as_raw_fd(),
            identity: identity_of(file().as_raw_fd()).unwrap(),
        };
        assert!(kept.get().is_err());
        drop(kept);
        assert!(foreign.metadata().is_ok());
    }

    #[test]
    fn closed_number_is_not_returned() {
        let kept = CheckedFd {
            number: 1 << 29,
            identity: (0, 0),
        };
        assert!(kept.get().is_err());
    }
}
