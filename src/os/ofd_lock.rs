//! OFD locks: locks on byte ranges of a file that belong to an open file description.
//!
//! All copies of a descriptor share its locks: copies made by `dup`, sent through a
//! socket, or inherited by a forked child. The kernel unlocks when the last copy is
//! closed, however the processes ended. To exclude other threads of the same process, a
//! thread needs a descriptor from its own `open`.
//!
//! The bytes are only numbers. They may lie beyond the end of the file, and no call
//! reads or writes them. The kernel merges adjacent locks of the same kind and
//! description.
//!
//! The kernel does not detect deadlocks among these locks.
//!
//! Manual page: [`fcntl(2)`], `F_OFD_SETLK` and `F_OFD_GETLK`.
//!
//! [`fcntl(2)`]: https://man7.org/linux/man-pages/man2/fcntl.2.html

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::fstat;

use super::io_error;
use super::pause::pause;

/// A range of at least one byte of a file, up to the largest file offset (2⁶³ − 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteRange {
    /// The first byte.
    pub(crate) start: u64,
    /// The number of bytes.
    pub(crate) len: u64,
}

/// The kind of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockKind {
    /// Excludes exclusive locks. The file must be open for reading.
    Shared,
    /// Excludes all other locks. The file must be open for writing.
    Exclusive,
}

/// The time to wait for a lock, depending on the kind of the conflicting lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockTimeout {
    /// For a shared lock of another description.
    pub(crate) with_shared: Duration,
    /// For an exclusive lock of another description.
    pub(crate) with_exclusive: Duration,
}

/// A conflicting lock lasted longer than the [`LockTimeout`]. This is the inner error
/// of an [`io::Error`] of kind `TimedOut`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// The kind of the conflicting lock.
    pub(crate) kind: LockKind,
    /// The first byte that the conflicting lock covers.
    pub(crate) start: u64,
    /// The inode number of the file.
    pub(crate) inode: u64,
}

impl Blocked {
    /// Returns the conflict because of which [`lock`] timed out, if `error` is of that
    /// kind.
    pub(crate) fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of inode {} is locked", self.start, self.inode)
    }
}

impl std::error::Error for Blocked {}

/// The number of tries of [`lock`] before its first pause.
const TRIES_BEFORE_PAUSE: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(5);

/// Locks the range, or fails with [`Blocked`] after the timeout: `F_OFD_SETLK` in a
/// loop with pauses.
///
/// The kernel has no lock call with a deadline. `F_OFD_SETLKW` waits without limit, and
/// every process that may read the file can hold a shared lock for ever.
///
/// If this description holds a lock in the range, the kernel converts it in one step.
pub(crate) fn lock(
    file: impl AsFd,
    kind: LockKind,
    range: ByteRange,
    timeout: LockTimeout,
) -> io::Result<()> {
    let begin = Instant::now();
    let mut next_pause = FIRST_PAUSE;
    let mut tries = 0;
    while !try_lock(&file, kind, range)? {
        tries += 1;
        if tries < TRIES_BEFORE_PAUSE {
            continue; // most holders unlock within a few microseconds
        }
        let conflict = conflict(&file, kind, range)?;
        let limit = match conflict {
            Some((LockKind::Shared, _)) => timeout.with_shared,
            // `None`: the other process has just unlocked. If this happens every time,
            // the kernel refuses for a reason that it does not report.
            Some((LockKind::Exclusive, _)) | None => timeout.with_exclusive,
        };
        if begin.elapsed() >= limit {
            let Some((kind, ByteRange { start, .. })) = conflict else {
                return Err(io_error(Errno::EAGAIN));
            };
            let inode = fstat(&file).map_err(io_error)?.st_ino;
            let blocked = Blocked { kind, start, inode };
            return Err(io::Error::new(io::ErrorKind::TimedOut, blocked));
        }
        pause(next_pause);
        next_pause = (next_pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}

/// Locks the range without waiting: `F_OFD_SETLK`. Returns false if another description
/// holds a conflicting lock. Then locks that this description holds do not change.
///
/// Linux reports a conflict by `EAGAIN`. POSIX also permits `EACCES`, but on Linux that
/// is the refusal of a security module.
pub(crate) fn try_lock(file: impl AsFd, kind: LockKind, range: ByteRange) -> io::Result<bool> {
    let request = request(kind.code(), range)?;
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&request)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN) => Ok(false),
        Err(errno) => Err(io_error(errno)),
    }
}

/// Unlocks the range, for all copies of the descriptor: `F_OFD_SETLK` with `F_UNLCK`.
/// Bytes that are not locked do not matter.
pub(crate) fn unlock(file: impl AsFd, range: ByteRange) -> io::Result<()> {
    let request = request(libc::F_UNLCK, range)?;
    fcntl(&file, FcntlArg::F_OFD_SETLK(&request)).map_err(io_error)?;
    Ok(())
}

/// Returns a lock of any kind on a byte of `range` that another description holds:
/// `F_OFD_GETLK`. Classic record locks of other processes count as well.
///
/// If there are several such locks, the result is any of them. It is the whole lock,
/// which may begin before `range` and end after it. The descriptor may be open for
/// reading or writing.
pub(crate) fn conflicting_lock(file: impl AsFd, range: ByteRange) -> io::Result<Option<ByteRange>> {
    let found = conflict(file, LockKind::Exclusive, range)?;
    Ok(found.map(|(_, range)| range))
}

/// Returns a lock that prevents this description from locking `range`, and its kind.
/// See [`conflicting_lock`].
fn conflict(
    file: impl AsFd,
    kind: LockKind,
    range: ByteRange,
) -> io::Result<Option<(LockKind, ByteRange)>> {
    let mut answer = request(kind.code(), range)?;
    fcntl(&file, FcntlArg::F_OFD_GETLK(&mut answer)).map_err(io_error)?;
    let kind = match i32::from(answer.l_type) {
        libc::F_UNLCK => return Ok(None),
        libc::F_RDLCK => LockKind::Shared,
        _ => LockKind::Exclusive,
    };
    let start = u64::try_from(answer.l_start).unwrap_or(0);
    let len = match u64::try_from(answer.l_len) {
        // 0 means up to the largest file offset.
        Ok(0) | Err(_) => i64::MAX as u64 - start + 1,
        Ok(len) => len,
    };
    Ok(Some((kind, ByteRange { start, len })))
}

impl LockKind {
    fn code(self) -> libc::c_int {
        match self {
            Self::Shared => libc::F_RDLCK,
            Self::Exclusive => libc::F_WRLCK,
        }
    }
}

fn request(code: libc::c_int, range: ByteRange) -> io::Result<libc::flock> {
    if range.len == 0 {
        // For the kernel, 0 means up to the end of the file, however long it becomes.
        return Err(io_error(Errno::EINVAL));
    }
    let offset = |n| libc::off_t::try_from(n).map_err(|_| io_error(Errno::EOVERFLOW));
    Ok(libc::flock {
        l_type: code as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: offset(range.start)?,
        l_len: offset(range.len)?,
        l_pid: 0, // OFD locks require 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::mem::memfd;
    use crate::os::mem::{Access, Pages};
    use std::fs::File;
    use std::os::fd::OwnedFd;
    use std::process::{Command, Stdio};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    const FIRST: ByteRange = ByteRange {
        start: 1 << 40,
        len: 1,
    };
    const SECOND: ByteRange = ByteRange {
        start: FIRST.start + 1,
        len: 1,
    };
    const BOTH: ByteRange = ByteRange {
        start: FIRST.start,
        len: 2,
    };

    const LONG: LockTimeout = LockTimeout {
        with_shared: Duration::from_secs(60),
        with_exclusive: Duration::from_secs(60),
    };

    /// Locks a range that is not locked for long.
    fn lock(file: &OwnedFd, kind: LockKind, range: ByteRange) -> io::Result<()> {
        super::lock(file, kind, range, LONG)
    }

    /// Returns two descriptions of one empty file.
    fn two() -> (OwnedFd, OwnedFd) {
        let file = memfd::create("shm-sync-lock-test", Pages::Normal).unwrap();
        let other = memfd::reopen(&file, Access::ReadWrite).unwrap();
        (file, other)
    }

    /// Starts a thread that waits for the lock, which is not free now.
    fn waiter(file: OwnedFd, kind: LockKind, range: ByteRange) -> mpsc::Receiver<OwnedFd> {
        assert!(!try_lock(&file, kind, range).unwrap());
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            super::lock(&file, kind, range, LONG).unwrap();
            sender.send(file).unwrap();
        });
        receiver
    }

    /// Returns the descriptor when the waiter has the lock. A child that another test
    /// forks may keep a closed descriptor open for a moment, so the waiter gets time.
    fn granted(waiter: mpsc::Receiver<OwnedFd>) -> OwnedFd {
        waiter.recv_timeout(Duration::from_secs(30)).unwrap()
    }

    #[test]
    fn smoke() {
        let (a, b) = two();
        lock(&a, LockKind::Exclusive, FIRST).unwrap();
        assert!(!try_lock(&b, LockKind::Shared, FIRST).unwrap());
        assert!(try_lock(&b, LockKind::Exclusive, SECOND).unwrap());
        unlock(&a, FIRST).unwrap();
        assert!(try_lock(&b, LockKind::Exclusive, FIRST).unwrap());
    }

    #[test]
    fn shared_locks_exclude_only_exclusive_ones() {
        let (a, b) = two();
        assert!(try_lock(&a, LockKind::Shared, FIRST).unwrap());
        assert!(try_lock(&b, LockKind::Shared, FIRST).unwrap());
        assert!(!try_lock(&b, LockKind::Exclusive, FIRST).unwrap());
        // The refused call did not change the shared lock.
        assert_eq!(conflicting_lock(&a, FIRST).unwrap(), Some(FIRST));
        unlock(&a, FIRST).unwrap();
        assert!(try_lock(&b, LockKind::Exclusive, FIRST).unwrap());
    }

    #[test]
    fn lock_is_converted_in_one_step() {
        let (a, b) = two();
        lock(&a, LockKind::Shared, FIRST).unwrap();
        lock(&a, LockKind::Exclusive, FIRST).unwrap();
        let waiter = waiter(b, LockKind::Shared, FIRST);
        lock(&a, LockKind::Exclusive, FIRST).unwrap(); // again: no change
        assert!(waiter.try_recv().is_err());
        lock(&a, LockKind::Shared, FIRST).unwrap();
        granted(waiter);
    }

    #[test]
    fn waiter_gets_the_lock_after_unlock() {
        let (a, b) = two();
        lock(&a, LockKind::Exclusive, FIRST).unwrap();
        let waiter = waiter(b, LockKind::Exclusive, FIRST);
        assert!(waiter.try_recv().is_err());
        unlock(&a, FIRST).unwrap();
        let b = granted(waiter);
        assert!(!try_lock(&a, LockKind::Shared, FIRST).unwrap());
        drop(b);
    }

    #[test]
    fn timeout_names_the_conflicting_lock() {
        let (a, b) = two();
        let inode = fstat(&a).unwrap().st_ino;
        let timeout = |with_shared, with_exclusive| LockTimeout {
            with_shared: Duration::from_millis(with_shared),
            with_exclusive: Duration::from_millis(with_exclusive),
        };
        for (kind, timeout) in [
            (LockKind::Shared, timeout(1, 60_000)),
            (LockKind::Exclusive, timeout(60_000, 1)),
        ] {
            lock(&a, kind, FIRST).unwrap();
            let error = super::lock(&b, LockKind::Exclusive, BOTH, timeout).unwrap_err();
            let start = FIRST.start;
            assert_eq!(Blocked::of(&error), Some(Blocked { kind, start, inode }));
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        assert!(Blocked::of(&io::Error::from_raw_os_error(libc::ETIMEDOUT)).is_none());
    }

    #[test]
    fn closing_the_last_descriptor_unlocks() {
        let (a, b) = two();
        lock(&a, LockKind::Exclusive, FIRST).unwrap();
        let copy = a.try_clone().unwrap();
        let waiter = waiter(b, LockKind::Exclusive, FIRST);
        drop(a);
        assert_eq!(
            conflicting_lock(memfd::reopen(&copy, Access::ReadWrite).unwrap(), FIRST).unwrap(),
            Some(FIRST)
        );
        assert!(waiter.try_recv().is_err());
        drop(copy);
        granted(waiter);
    }

    #[test]
    fn killing_the_process_unlocks() {
        let (a, b) = two();
        lock(&a, LockKind::Exclusive, FIRST).unwrap();
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::from(a)) // only the child keeps the descriptor
            .spawn()
            .unwrap();
        let waiter = waiter(b, LockKind::Exclusive, FIRST);
        assert!(waiter.try_recv().is_err());
        child.kill().unwrap();
        child.wait().unwrap();
        granted(waiter);
    }

    #[test]
    fn conflicting_lock_is_the_whole_lock() {
        let (a, b) = two();
        assert_eq!(conflicting_lock(&b, BOTH).unwrap(), None);
        lock(&a, LockKind::Shared, SECOND).unwrap();
        assert_eq!(conflicting_lock(&b, BOTH).unwrap(), Some(SECOND));
        assert_eq!(conflicting_lock(&b, FIRST).unwrap(), None);
        assert_eq!(conflicting_lock(&a, BOTH).unwrap(), None, "its own lock");
        // Adjacent locks merge.
        lock(&a, LockKind::Shared, FIRST).unwrap();
        assert_eq!(conflicting_lock(&b, SECOND).unwrap(), Some(BOTH));
        // They can be separated again.
        unlock(&a, FIRST).unwrap();
        assert_eq!(conflicting_lock(&b, BOTH).unwrap(), Some(SECOND));
    }

    #[test]
    fn conflicting_lock_needs_no_write_permission() {
        let (a, _) = two();
        lock(&a, LockKind::Shared, FIRST).unwrap();
        let reader = memfd::reopen(&a, Access::ReadOnly).unwrap();
        assert_eq!(conflicting_lock(&reader, BOTH).unwrap(), Some(FIRST));
        assert!(try_lock(&reader, LockKind::Shared, FIRST).unwrap());
        let refused = try_lock(&reader, LockKind::Exclusive, SECOND).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn ranges_end_at_the_largest_offset() {
        let (a, b) = two();
        let last = ByteRange {
            start: i64::MAX as u64,
            len: 1,
        };
        assert!(try_lock(&a, LockKind::Exclusive, last).unwrap());
        assert_eq!(conflicting_lock(&b, last).unwrap(), Some(last));

        let impossible = [(0, 0), (u64::MAX, 1), (0, u64::MAX), (last.start, 2)];
        for (start, len) in impossible {
            let range = ByteRange { start, len };
            assert!(try_lock(&a, LockKind::Shared, range).is_err(), "{range:?}");
            assert!(conflicting_lock(&a, range).is_err(), "{range:?}");
        }
    }

    #[test]
    fn locking_does_not_change_the_file() {
        let (a, _) = two();
        lock(&a, LockKind::Exclusive, BOTH).unwrap();
        assert_eq!(File::from(a).metadata().unwrap().len(), 0);
    }
}
