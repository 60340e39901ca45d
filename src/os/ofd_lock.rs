//! Locks on byte ranges of a file that the kernel drops when their holder is gone.
//!
//! An open-file-description lock belongs to what `open` made, not to a process
//! or a thread. Every copy of the descriptor shares it: by `dup`, over a
//! socket, in a forked child. The kernel drops it when the last copy is closed,
//! however the processes that had it end. Whoever wants to exclude others in
//! its own process needs a descriptor from an `open` of its own.
//!
//! The bytes are only numbers: they may lie beyond the end of the file, and
//! nothing is read or written there. Locks on neighbouring bytes that one
//! description holds in the same kind merge into one.
//!
//! The kernel looks for no deadlocks among these locks.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::stat::fstat;

use super::clock::pause;
use super::io_error;

/// Bytes of a file: at least one, none beyond the largest file offset (2⁶³ − 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteRange {
    /// The first byte.
    pub(crate) start: u64,
    /// How many.
    pub(crate) len: u64,
}

/// What a lock excludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LockKind {
    /// Exclusive locks. The file must be open for reading.
    Shared,
    /// All other locks. The file must be open for writing.
    Exclusive,
}

/// How long to wait for a lock, depending on what is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockTimeout {
    /// With a shared lock.
    pub(crate) with_shared: Duration,
    /// With an exclusive lock.
    pub(crate) with_exclusive: Duration,
}

/// A lock was in the way for longer than the caller's patience. It is the inner error
/// of an [`io::Error`] of the kind `TimedOut`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// What kind of lock.
    pub(crate) kind: LockKind,
    /// The first byte that it covers.
    pub(crate) start: u64,
    /// The inode number of the file.
    pub(crate) inode: u64,
}

impl Blocked {
    /// Returns why [`lock`] gave up, if that is what `error` says.
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

/// How many times [`lock`] tries before it waits.
const EAGER_TRIES: u32 = 8;
/// The first wait, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(5));

/// [`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl.2.html), `F_OFD_SETLK`,
/// again and again: locks the range, or fails with [`Blocked`].
///
/// It tries, and sleeps between two tries, because the kernel has no record lock with a
/// deadline: `F_OFD_SETLKW` would wait for as long as any process holds a lock there,
/// and a process that may only read the file can hold a shared one for ever.
///
/// A lock that this description already holds there is converted in one step:
/// it stays in force until it is the new one.
pub(crate) fn lock(
    file: impl AsFd,
    kind: LockKind,
    range: ByteRange,
    patience: LockTimeout,
) -> io::Result<()> {
    let begin = Instant::now();
    let mut next_pause = PAUSES.0;
    let mut tries = 0;
    while !try_lock(&file, kind, range)? {
        tries += 1;
        if tries < EAGER_TRIES {
            continue; // most holders need a few microseconds
        }
        let conflict = conflict(&file, kind, range)?;
        let limit = match conflict {
            Some((LockKind::Shared, _)) => patience.with_shared,
            // None: the other process has just unlocked it. If that is so each time, the
            // system refuses for another reason, which it does not tell.
            Some((LockKind::Exclusive, _)) | None => patience.with_exclusive,
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
        next_pause = (next_pause * 2).min(PAUSES.1);
    }
    Ok(())
}

/// [`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl.2.html),
/// `F_OFD_SETLK`: locks the range now or, if another description's lock is in
/// the way, returns false. Then a lock that this one already holds stays as it is.
///
/// A lock in the way is `EAGAIN` on Linux. POSIX permits `EACCES` as well, but here that
/// is the refusal of a security module.
pub(crate) fn try_lock(file: impl AsFd, kind: LockKind, range: ByteRange) -> io::Result<bool> {
    let request = request(kind.code(), range)?;
    match fcntl(&file, FcntlArg::F_OFD_SETLK(&request)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN) => Ok(false),
        Err(errno) => Err(io_error(errno)),
    }
}

/// [`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl.2.html),
/// `F_OFD_SETLK` with `F_UNLCK`: for every copy of the descriptor. What is not
/// locked stays so.
pub(crate) fn unlock(file: impl AsFd, range: ByteRange) -> io::Result<()> {
    let request = request(libc::F_UNLCK, range)?;
    fcntl(&file, FcntlArg::F_OFD_SETLK(&request)).map_err(io_error)?;
    Ok(())
}

/// [`fcntl(2)`](https://man7.org/linux/man-pages/man2/fcntl.2.html),
/// `F_OFD_GETLK`: a lock of either kind that another description (or, by the
/// classic locks, another process) holds on a byte of `range`.
///
/// One of possibly many, not always the lowest, and whole: it may begin before
/// `range` and end after it. Changes nothing, and any descriptor will do,
/// whatever it is open for.
pub(crate) fn conflicting_lock(file: impl AsFd, range: ByteRange) -> io::Result<Option<ByteRange>> {
    let found = conflict(file, LockKind::Exclusive, range)?;
    Ok(found.map(|(_, range)| range))
}

/// As [`conflicting_lock`]: a lock that keeps this description from locking `range`.
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
        // The kernel's way to say "as far as files go".
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
        // To the kernel it would mean "to the end and whatever is added".
        return Err(io_error(Errno::EINVAL));
    }
    let offset = |n| libc::off_t::try_from(n).map_err(|_| io_error(Errno::EOVERFLOW));
    Ok(libc::flock {
        l_type: code as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: offset(range.start)?,
        l_len: offset(range.len)?,
        l_pid: 0, // what tells these locks from the classic ones
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

    const PATIENT: LockTimeout = LockTimeout {
        with_shared: Duration::from_secs(60),
        with_exclusive: Duration::from_secs(60),
    };

    /// A lock that is to be had.
    fn lock(file: &OwnedFd, kind: LockKind, range: ByteRange) -> io::Result<()> {
        super::lock(file, kind, range, PATIENT)
    }

    /// Two descriptions of one empty file.
    fn two() -> (OwnedFd, OwnedFd) {
        let file = memfd::create("shm-sync-lock-test", Pages::Normal).unwrap();
        let other = memfd::reopen(&file, Access::ReadWrite).unwrap();
        (file, other)
    }

    /// Starts to wait for the lock; it is tried now and still not to be had.
    fn waiter(file: OwnedFd, kind: LockKind, range: ByteRange) -> mpsc::Receiver<OwnedFd> {
        assert!(!try_lock(&file, kind, range).unwrap());
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            super::lock(&file, kind, range, PATIENT).unwrap();
            sender.send(file).unwrap();
        });
        receiver
    }

    /// Waits with a watchdog. A descriptor that is closed may live on for a
    /// moment in a child that another test forks, so "at once" is too much to ask.
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
        // The refusal left the shared lock as it was.
        assert_eq!(conflicting_lock(&a, FIRST).unwrap(), Some(FIRST));
        unlock(&a, FIRST).unwrap();
        assert!(try_lock(&b, LockKind::Exclusive, FIRST).unwrap());
    }

    #[test]
    fn a_lock_is_converted_without_a_gap() {
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
    fn a_waiter_gets_the_lock_when_it_is_unlocked() {
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
    fn what_is_in_the_way_for_too_long_is_named() {
        let (a, b) = two();
        let inode = fstat(&a).unwrap().st_ino;
        let patience = |with_shared, with_exclusive| LockTimeout {
            with_shared: Duration::from_millis(with_shared),
            with_exclusive: Duration::from_millis(with_exclusive),
        };
        for (kind, patience) in [
            (LockKind::Shared, patience(1, 60_000)),
            (LockKind::Exclusive, patience(60_000, 1)),
        ] {
            lock(&a, kind, FIRST).unwrap();
            let error = super::lock(&b, LockKind::Exclusive, BOTH, patience).unwrap_err();
            let start = FIRST.start;
            assert_eq!(Blocked::of(&error), Some(Blocked { kind, start, inode }));
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        assert!(Blocked::of(&io::Error::from_raw_os_error(libc::ETIMEDOUT)).is_none());
    }

    #[test]
    fn the_last_descriptor_takes_the_lock_with_it() {
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
    fn a_killed_process_takes_the_lock_with_it() {
        let (a, b) = two();
        lock(&a, LockKind::Exclusive, FIRST).unwrap();
        let mut child = Command::new("sleep")
            .arg("60")
            .stdin(Stdio::from(a)) // moved: the child has the only one left
            .spawn()
            .unwrap();
        let waiter = waiter(b, LockKind::Exclusive, FIRST);
        assert!(waiter.try_recv().is_err());
        child.kill().unwrap();
        child.wait().unwrap();
        granted(waiter);
    }

    #[test]
    fn any_lock_is_found_whole() {
        let (a, b) = two();
        assert_eq!(conflicting_lock(&b, BOTH).unwrap(), None);
        lock(&a, LockKind::Shared, SECOND).unwrap();
        assert_eq!(conflicting_lock(&b, BOTH).unwrap(), Some(SECOND));
        assert_eq!(conflicting_lock(&b, FIRST).unwrap(), None);
        assert_eq!(conflicting_lock(&a, BOTH).unwrap(), None, "one's own");
        // Neighbours merge.
        lock(&a, LockKind::Shared, FIRST).unwrap();
        assert_eq!(conflicting_lock(&b, SECOND).unwrap(), Some(BOTH));
        // And can be parted.
        unlock(&a, FIRST).unwrap();
        assert_eq!(conflicting_lock(&b, BOTH).unwrap(), Some(SECOND));
    }

    #[test]
    fn the_question_needs_no_right_to_write() {
        let (a, _) = two();
        lock(&a, LockKind::Shared, FIRST).unwrap();
        let reader = memfd::reopen(&a, Access::ReadOnly).unwrap();
        assert_eq!(conflicting_lock(&reader, BOTH).unwrap(), Some(FIRST));
        assert!(try_lock(&reader, LockKind::Shared, FIRST).unwrap());
        let refused = try_lock(&reader, LockKind::Exclusive, SECOND).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EBADF));
    }

    #[test]
    fn ranges_end_where_files_do() {
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
    fn the_file_stays_as_it_is() {
        let (a, _) = two();
        lock(&a, LockKind::Exclusive, BOTH).unwrap();
        assert_eq!(File::from(a).metadata().unwrap().len(), 0);
    }
}
