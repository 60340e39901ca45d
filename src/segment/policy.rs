//! What there is to choose when a segment is created or opened.

pub use crate::os::mem::Pages;

/// What becomes of a segment's name when nobody is attached any more.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Removal {
    /// It stays, with the content, until somebody calls
    /// [`unlink`](crate::unlink).
    #[default]
    Persistent,
    /// The last process that drops it takes the name away, also if the others
    /// were killed. The name stays if the last process
    ///
    /// * is killed, or ends without dropping the segment;
    /// * may not remove it: in `/dev/shm`, and of System V, only the owner may;
    /// * can't open it by its name: after a `chroot`, or if neither a free descriptor
    ///   nor the segment's own is left;
    /// * finds it locked by a program outside this crate.
    ///
    /// See [`IfAbandoned`] and the tool's `gc` for names that stayed.
    UntilLastDetach,
}

impl Removal {
    pub(super) const fn to_code(self) -> u8 {
        match self {
            Self::Persistent => 0,
            Self::UntilLastDetach => 1,
        }
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Persistent),
            1 => Some(Self::UntilLastDetach),
            _ => None,
        }
    }
}

/// What `create` and `open_or_create` do when the name exists but no process is
/// attached: the last one has dropped the segment or crashed. `open` always opens it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IfAbandoned {
    /// It is there: `open_or_create` opens it, with what is in it, and `create` says
    /// so. Locks whose holders died are poisoned.
    #[default]
    Reuse,
    /// Take its name away and create it anew, whatever it holds, if it is a
    /// segment of this crate that this user may remove. A segment to which a process is
    /// attached, or attaches at the same moment, is treated as in
    /// [`Reuse`](Self::Reuse), whatever pid namespace that process lives in.
    Recreate,
}

/// When the memory of a segment is brought in.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Residency {
    /// When it is touched.
    #[default]
    OnDemand,
    /// All of it, before the segment is used. Linux 5.14 and later;
    /// [`Error::Unsupported`](crate::Error::Unsupported) before.
    Prefaulted,
    /// The same, and it never goes to swap
    /// ([`mlock(2)`](https://man7.org/linux/man-pages/man2/mlock.2.html)): for this
    /// process, which forked children must repeat; of a System V segment
    /// (`SHM_LOCK`), for all. [`Error::MemoryLockLimit`](crate::Error::MemoryLockLimit) if this process may not
    /// lock so much.
    Locked,
}

/// The choice whether core dumps of this process contain the memory of a segment
/// ([`core(5)`](https://man7.org/linux/man-pages/man5/core.5.html)).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CoreDump {
    /// `/proc/PID/coredump_filter` decides. By default the kernel dumps anonymous and
    /// System V segments, and POSIX objects and files that were unlinked. It does not
    /// dump POSIX objects and files that have a name, nor huge pages.
    #[default]
    Filtered,
    /// No dump contains it (`MADV_DONTDUMP`), of this process and of children that it
    /// forks afterwards. Secret data stays out of dumps, and the kernel writes them
    /// faster. The kernel releases the locks of a crashed process only after its dump:
    /// see [`ShmMutex`](crate::ShmMutex#crash-behaviour).
    Excluded,
}
