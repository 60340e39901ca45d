//! Facts about the calling process and thread that the kernel knows.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::stat::{FileStat, fstat, stat};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

use super::io_error;

/// Asks the kernel for the caller's pid namespace
/// ([`pid_namespaces(7)`](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)).
/// Returns its inode number. Two namespaces that exist at the same time have different
/// numbers.
///
/// Each process asks for itself, because its parent may be in another namespace: after
/// `unshare` or `setns`, the later children of a process are in the new one. A child
/// can't detect that.
pub(crate) fn read_pid_namespace() -> io::Result<u32> {
    // `/proc` first, because it is older. A seccomp filter may kill a process that
    // makes a system call which the filter does not know.
    namespace_from_proc().or_else(|error| namespace_from_pidfd().map_err(|_| error))
}

/// Reads the number from `/proc/self/ns/pid`. `self` is the caller in every `/proc`,
/// independent of the namespace in which it was mounted. A `/proc` that does not show
/// the caller has no such entry.
fn namespace_from_proc() -> io::Result<u32> {
    const LINK: &str = "/proc/self/ns/pid";
    let kind = statfs(LINK).map_err(io_error)?.filesystem_type();
    if kind != NSFS_MAGIC {
        return Err(io::Error::other("/proc is not a proc file system"));
    }
    namespace_number(stat(LINK).map_err(io_error)?)
}

/// Asks the kernel for the number without `/proc`: calls
/// [`pidfd_open(2)`](https://man7.org/linux/man-pages/man2/pidfd_open.2.html) for this
/// process, and `PIDFD_GET_PID_NAMESPACE` (Linux 6.11). Neither descriptor outlives the
/// call, and neither can be written to.
fn namespace_from_pidfd() -> io::Result<u32> {
    /// `_IO(0xFF, 5)` of `linux/pidfd.h`.
    const PIDFD_GET_PID_NAMESPACE: libc::Ioctl = NO_DATA | 0xff << 8 | 5;
    /// `_IOC_NONE`.
    const NO_DATA: libc::Ioctl = if cfg!(any(
        target_arch = "mips64",
        target_arch = "powerpc64",
        target_arch = "sparc64"
    )) {
        1 << 29
    } else {
        0
    };
    // SAFETY: no memory is passed.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, std::process::id(), 0) };
    let pidfd = owned(pidfd)?;
    // SAFETY: no memory is passed; the descriptor is open.
    let namespace = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_PID_NAMESPACE, 0) };
    let namespace = owned(namespace.into())?;
    namespace_number(fstat(namespace).map_err(io_error)?)
}

/// Wraps a descriptor that a system call has just returned.
fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let number = RawFd::try_from(result).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it for the caller, and no other code owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn namespace_number(stat: FileStat) -> io::Result<u32> {
    // The kernel's type is `unsigned int` (`ns_common.inum`). The numbers begin at
    // 0xeffffffc and reach neither 0 nor u32::MAX.
    u32::try_from(stat.st_ino)
        .ok()
        .filter(|&id| id != 0 && id != u32::MAX)
        .ok_or_else(|| io::Error::other("the namespace id is not a 32-bit number"))
}

/// Calls [`gettid(2)`](https://man7.org/linux/man-pages/man2/gettid.2.html).
pub(crate) fn gettid() -> u32 {
    u32::try_from(nix::unistd::gettid().as_raw()).unwrap_or(0) // never negative
}

/// Calls [`tgkill(2)`](https://man7.org/linux/man-pages/man2/tgkill.2.html) with signal
/// 0. Returns whether `tid` is a thread of this process that has not been reaped.
/// Returns `true` if a seccomp filter refuses the call.
///
/// The kernel releases a thread's locks before it frees the thread's id.
pub(crate) fn is_thread_of_this_process(tid: u32) -> bool {
    // SAFETY: signal 0 sends nothing; no memory is passed.
    let rc = unsafe { libc::syscall(libc::SYS_tgkill, std::process::id(), tid, 0) };
    rc == 0 || io::Error::last_os_error().raw_os_error() != Some(libc::ESRCH)
}

/// Returns the ids of all threads of this process: the names in `/proc/self/task`.
///
/// # Errors
///
/// `/proc` is not mounted, or it shows the ids of another pid namespace, or a thread
/// has ended meanwhile.
pub(crate) fn threads() -> io::Result<Vec<u32>> {
    const DIRECTORY: &str = "/proc/self/task";
    let mut threads: Vec<u32> = Vec::new();
    for entry in std::fs::read_dir(DIRECTORY)? {
        let name = entry?.file_name();
        let tid = name.to_str().and_then(|name| name.parse().ok());
        threads.push(tid.ok_or_else(|| io::Error::other("a name is no thread id"))?);
    }
    // If a thread ends while the kernel lists the names, the list can lack another one.
    // So the list is complete only if it has as many names as there are threads: the
    // directory has a link for each, and two others. `is_thread_of_this_process` then
    // checks each thread. Each of them was there when the kernel counted, so the list
    // lacks none.
    let links = stat(DIRECTORY).map_err(io_error)?.st_nlink;
    let is_complete = usize::try_from(links).is_ok_and(|links| links == threads.len() + 2);
    // The names of another namespace are other numbers.
    let are_ours = threads.contains(&gettid())
        && threads
            .iter()
            .all(|&tid| tid != 0 && is_thread_of_this_process(tid));
    if is_complete && are_ours {
        Ok(threads)
    } else {
        Err(io::Error::other("/proc does not show all threads"))
    }
}

/// Calls [`sysconf(3)`](https://man7.org/linux/man-pages/man3/sysconf.3.html) with
/// `_SC_NPROCESSORS_ONLN`. Returns the number of processors that are online, or 1 if it
/// is unknown.
pub(crate) fn online_processors() -> usize {
    // SAFETY: the call takes no memory.
    let count = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
    usize::try_from(count).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_and_pidfd_name_the_same_namespace() {
        let by_proc = namespace_from_proc().unwrap();
        match namespace_from_pidfd() {
            Ok(by_pidfd) => assert_eq!(by_pidfd, by_proc),
            Err(error) => println!("skipped: before Linux 6.11: {error}"),
        }
    }

    #[test]
    fn smoke() {
        assert!(is_thread_of_this_process(gettid()));
        assert!(!is_thread_of_this_process(0x3fff_ffff));
        // A list is refused if a thread of another test ends meanwhile.
        let listed = std::iter::repeat_with(threads)
            .take(1_000)
            .find_map(Result::ok);
        assert!(listed.expect("some list is complete").contains(&gettid()));
    }
}
