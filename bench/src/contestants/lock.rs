//! The trait of all locks, and their properties.

use crate::failure::Failure;
use crate::series::Survives;

/// The properties of a lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Profile {
    pub(crate) name: &'static str,
    pub(crate) survives: Survives,
    /// `true` if the next holder learns that a holder was killed.
    pub(crate) tells: bool,
    pub(crate) scope: Scope,
    pub(crate) cost: Cost,
    /// Bytes in shared memory, without the data. 0 if the lock is in the kernel.
    pub(crate) bytes: usize,
}

/// The workers that can share a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Processes,
    Threads,
}

/// The cost of a free lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    AtomicInstructions,
    SystemCalls,
}

/// A lock that guards a number.
///
/// Workloads are generic over it, so that measured loops make no virtual calls.
pub(crate) trait Lock: Sync + Sized + 'static {
    const PROFILE: Profile;

    /// Creates a lock that guards zero. Processes that are forked during its lifetime
    /// share it.
    fn create() -> Result<Self, Failure>;

    /// Prepares the copy of a forked worker. A lock that belongs to an open file opens
    /// the file again.
    fn after_fork(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Locks, calls `inside` with the number, and unlocks. Recovers the lock after an
    /// owner death. Panics if the lock fails.
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R;
}

/// Panics, because a lock failed.
#[cold]
#[inline(never)]
pub(super) fn fail(what: &str, why: impl std::fmt::Debug) -> ! {
    panic!("{what}: {why:?}")
}
