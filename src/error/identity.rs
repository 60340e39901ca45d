//! Why a process can't own locks.

use std::io;

use thiserror::Error as ThisError;

/// Why this process can't own locks: it does not know its identity, or the kernel would
/// not release its locks.
#[non_exhaustive]
#[derive(Debug, ThisError)]
pub enum IdentityError {
    /// The pid namespace is unknown: this process can't read `/proc/self/ns/pid`, and
    /// the kernel has no `PIDFD_GET_PID_NAMESPACE` (Linux 6.11). Each process reads it
    /// once, and so does each forked child, for example after a `chroot`. Before Linux
    /// 6.11, mount `/proc` in the new root.
    #[error(
        "the pid namespace can't be read from /proc/self/ns/pid: \
         mount /proc (in a chroot as well), or use Linux 6.11"
    )]
    NoPidNamespace(#[source] io::Error),
    /// This process can't read `/proc/sys/kernel/random/boot_id`. So it does not know
    /// whether the locks in a file on a disk are stale. POSIX objects, anonymous and
    /// System V segments need no boot id.
    #[error(
        "the id of this boot can't be read from /proc/sys/kernel/random/boot_id, and a segment \
         in a file needs it: mount all of /proc (without subset=pid), or use a segment in memory"
    )]
    NoBootId(#[source] io::Error),
    /// This process was made by a bare `clone` system call. pthread still has the
    /// parent's identity, and the kernel would not release this process's locks.
    #[error("this process was made by a raw clone(2), where pthread locks don't work: use fork(2)")]
    RawClone,
    /// The system has no robust lists, by which the kernel finds the locks of a dying
    /// thread. It is an emulator (qemu-user), or a sandbox that refuses
    /// `get_robust_list(2)` or `set_robust_list(2)`.
    #[error(
        "this system has no robust lists, without which locks can't survive their holders: \
         run on a real Linux kernel, and let the sandbox permit get_robust_list(2) and \
         set_robust_list(2)"
    )]
    NoRobustLists(#[source] io::Error),
    /// A forked child could not be told from its parent: the kernel has neither
    /// `MADV_WIPEONFORK` (Linux 4.14) nor `MADV_DONTFORK`, or a sandbox refuses
    /// `madvise(2)`.
    #[error(
        "forks can't be detected here: let the sandbox permit madvise(2) with \
         MADV_WIPEONFORK, or with MADV_DONTFORK and the futex operation FUTEX_CMP_REQUEUE"
    )]
    NoForkDetection(#[source] io::Error),
}
