//! Backings, and the trait of all ways to create and open shared memory.

use crate::failure::Failure;
use crate::series::Survives;

/// A backing of shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    Posix,
    File,
    SystemV,
    Memfd,
}

impl Backing {
    pub(super) const ALL: [Self; 4] = [Self::Posix, Self::File, Self::SystemV, Self::Memfd];

    /// Returns the name of the workload.
    pub(super) fn workload(self) -> &'static str {
        match self {
            Self::Posix => "opening/POSIX object",
            Self::File => "opening/file",
            Self::SystemV => "opening/System V segment",
            Self::Memfd => "opening/memfd",
        }
    }

    /// Returns the name of the object of this process, in the form of
    /// [`shm_sync::Address`].
    pub(super) fn address(self) -> String {
        let pid = std::process::id();
        match self {
            Self::Posix | Self::Memfd => format!("/shm-sync-bench-{pid}"),
            Self::File => std::env::temp_dir()
                .join(format!("shm-sync-bench-{pid}"))
                .display()
                .to_string(),
            Self::SystemV => format!("sysv:{pid}"),
        }
    }
}

/// A way to create and open shared memory. Dropping an attachment closes it.
pub(super) trait SharedMemoryApi {
    const NAME: &'static str;
    /// Kills of a creator after which other processes can use the memory or create new
    /// memory.
    const SURVIVES: Survives;
    type Attachment;

    /// Creates memory with a number in it.
    fn create(&self) -> Result<Self::Attachment, Failure>;

    /// Opens existing memory, checks the number and writes it again.
    fn open(&self, first: &Self::Attachment) -> Result<Self::Attachment, Failure>;

    /// Opens existing memory by an operation that would otherwise create it. `None` if
    /// there is no such operation.
    fn open_or_create(&self) -> Option<Result<Self::Attachment, Failure>>;

    /// Removes the name, if there is one.
    fn remove(&self) -> Result<(), Failure>;
}
