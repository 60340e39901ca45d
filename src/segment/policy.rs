//! The choices when a segment is created or opened.

pub use crate::os::mem::Pages;

/// Selects what happens to the name of a segment when no process is attached any more:
/// see [`SegmentOptions::removal`](crate::SegmentOptions::removal).
///
/// In the cookbook: [signals and Ctrl-C](crate::guide::cookbook#signals-and-ctrl-c).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Removal {
    /// Name and contents stay until a process calls [`unlink`](crate::unlink).
    #[default]
    Persistent,
    /// The last process that drops the segment removes the name, also if the other
    /// processes were killed. The name stays if the last process
    ///
    /// * is killed, or ends without dropping the segment;
    /// * may not remove it: only the owner may remove objects in `/dev/shm` and System
    ///   V segments;
    /// * can't open it by its name: after a `chroot`, or if it has no free descriptor
    ///   and the segment's own is closed;
    /// * finds it locked by a program outside this crate.
    ///
    /// [`IfAbandoned`] and the tool's `gc` deal with names that stayed.
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

/// How [`create`](crate::Segment::create) and
/// [`open_or_create`](crate::Segment::open_or_create) treat an existing segment that no
/// process is attached to any more: the last one has dropped it or died.
/// [`open`](crate::Segment::open) always opens it. The option is
/// [`SegmentOptions::if_abandoned`](crate::SegmentOptions::if_abandoned).
///
/// In the cookbook: [signals and Ctrl-C](crate::guide::cookbook#signals-and-ctrl-c).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IfAbandoned {
    /// Treat it as existing. [`open_or_create`](crate::Segment::open_or_create) opens
    /// it and keeps its contents; [`create`](crate::Segment::create) fails with
    /// [`Error::AlreadyExists`](crate::Error::AlreadyExists). Locks of holders that
    /// died are poisoned.
    #[default]
    Reuse,
    /// Remove it with its contents, and create a new one, if it is a segment of this
    /// crate that this user may remove. A segment that a process of any pid namespace
    /// is attached to, or attaches to at the same moment, is treated as in
    /// [`Reuse`](Self::Reuse).
    Recreate,
}

/// When the kernel allocates the memory of a segment: see
/// [`SegmentOptions::residency`](crate::SegmentOptions::residency).
///
/// In the guide: [options](crate::guide#options).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Residency {
    /// At the first access to each page.
    #[default]
    OnDemand,
    /// All of it, before the segment is used. It needs Linux 5.14 or later. Before
    /// that, the result is [`Error::Unsupported`](crate::Error::Unsupported).
    Prefaulted,
    /// Like [`Prefaulted`](Self::Prefaulted), and the memory is never swapped out
    /// ([`mlock(2)`]). This applies to this process only. A forked child must open the
    /// segment again with this option, or call `mlock`. A System V segment is locked
    /// for all processes (`SHM_LOCK`). The result is
    /// [`Error::MemoryLockLimit`](crate::Error::MemoryLockLimit) if this process may
    /// not lock so much memory.
    ///
    /// [`mlock(2)`]: https://man7.org/linux/man-pages/man2/mlock.2.html
    Locked,
}

/// Selects whether core dumps of this process contain the memory of a segment
/// ([`core(5)`]): see [`SegmentOptions::core_dump`](crate::SegmentOptions::core_dump).
///
/// [`core(5)`]: https://man7.org/linux/man-pages/man5/core.5.html
///
/// In the guide: [options](crate::guide#options).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CoreDump {
    /// `/proc/PID/coredump_filter` decides. By default the kernel dumps anonymous and
    /// System V segments, and POSIX objects and files that were unlinked. It does not
    /// dump POSIX objects and files that have a name, nor huge pages.
    #[default]
    Filtered,
    /// No dump of this process contains it (`MADV_DONTDUMP`), and no dump of children
    /// that it forks afterwards. Secret data stays out of dumps, and the kernel writes
    /// them faster. The kernel releases the locks of a crashed process only after its
    /// dump: see [`ShmMutex`](crate::ShmMutex#crash-behaviour).
    Excluded,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn numbers_are_documented() {
        let known: Vec<_> = (0..=u8::MAX).filter_map(Removal::from_code).collect();
        let names: Vec<_> = known
            .iter()
            .map(|removal| (format!("{removal:?}"), removal.to_code().into()))
            .collect();
        let rows: Vec<_> = names.iter().map(|(name, code)| (&**name, *code)).collect();
        documented::values("REMOVAL", &rows);
    }
}
