//! How this process keeps the memory of a segment: residency and core dumps.

use std::io::ErrorKind;

use crate::error::{Error, Unsupported};
use crate::os::mem::sysv_shm::{self, Id};
use crate::os::mem::{Access, Mapping};
use crate::segment::failure;
use crate::segment::policy::{CoreDump, Residency};

/// The treatment of each new mapping of a segment.
#[derive(Clone, Copy, Debug)]
pub(in crate::segment) struct MemoryPolicy {
    pub(in crate::segment) residency: Residency,
    pub(in crate::segment) core_dump: CoreDump,
}

impl MemoryPolicy {
    pub(in crate::segment) const DEFAULT: Self = Self {
        residency: Residency::OnDemand,
        core_dump: CoreDump::Filtered,
    };

    /// Applies the policy to a new mapping of a file.
    pub(in crate::segment) fn apply(self, mapping: &Mapping) -> Result<(), Error> {
        self.apply_core_dump(mapping)?;
        match self.residency {
            Residency::OnDemand => Ok(()),
            Residency::Prefaulted => prefault(mapping),
            Residency::Locked => mapping
                .lock_in_memory()
                .map_err(failure::memory_lock_error(mapping.len(), "mlock")),
        }
    }

    /// Applies the policy to a new mapping of a System V segment. The kernel locks the
    /// segment into memory (`SHM_LOCK`), and not the mapping of one process.
    pub(in crate::segment) fn apply_system_v(self, mapping: &Mapping, id: Id) -> Result<(), Error> {
        match self.residency {
            Residency::Locked => {
                self.apply_core_dump(mapping)?;
                let refused = failure::memory_lock_error(mapping.len(), "shmctl(SHM_LOCK)");
                sysv_shm::lock_in_memory(id).map_err(refused)?;
                prefault(mapping)
            }
            _ => self.apply(mapping),
        }
    }

    /// Excludes a new mapping from core dumps if the policy says so.
    pub(in crate::segment) fn apply_core_dump(self, mapping: &Mapping) -> Result<(), Error> {
        match self.core_dump {
            CoreDump::Filtered => Ok(()),
            CoreDump::Excluded => mapping
                .exclude_from_core_dumps()
                .map_err(failure::call_error("madvise(MADV_DONTDUMP)")),
        }
    }
}

/// Brings every page of a mapping into memory.
fn prefault(mapping: &Mapping) -> Result<(), Error> {
    let access = mapping.access();
    let call = match access {
        Access::ReadOnly => "madvise(MADV_POPULATE_READ)",
        Access::ReadWrite => "madvise(MADV_POPULATE_WRITE)",
    };
    mapping
        .prefault(access)
        .map_err(|source| match source.kind() {
            ErrorKind::InvalidInput => Unsupported::Prefault.into(),
            _ => failure::memory_error(mapping.len(), call)(source),
        })
}
