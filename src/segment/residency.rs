//! Prepares new mappings as the options say: residency and core dumps.

use crate::error::{Error, Unsupported};
use crate::os::mem::Mapping;
use crate::os::mem::sysv_shm::{self, Id};
use crate::segment::failure;
use crate::segment::options::SegmentOptions;
use crate::segment::policy::{CoreDump, Residency};

impl SegmentOptions {
    /// Prepares a new mapping as the options say: residency and core dumps.
    pub(super) fn settle_in(&self, mapping: &Mapping) -> Result<(), Error> {
        self.set_core_dump(mapping)?;
        match self.residency {
            Residency::OnDemand => Ok(()),
            Residency::Prefaulted => prefault(mapping),
            Residency::Locked => mapping
                .lock_in_memory()
                .map_err(failure::of_memory_lock(mapping.len(), "mlock")),
        }
    }

    /// As [`settle_in`](Self::settle_in). Locking is the segment's business here,
    /// not the mapping's.
    pub(super) fn settle_in_system_v(&self, mapping: &Mapping, id: Id) -> Result<(), Error> {
        match self.residency {
            Residency::Locked => {
                self.set_core_dump(mapping)?;
                let refused = failure::of_memory_lock(mapping.len(), "shmctl(SHM_LOCK)");
                sysv_shm::lock_in_memory(id).map_err(refused)?;
                prefault(mapping)
            }
            _ => self.settle_in(mapping),
        }
    }

    /// Leaves a new mapping out of core dumps if the options say so.
    pub(super) fn set_core_dump(&self, mapping: &Mapping) -> Result<(), Error> {
        match self.core_dump {
            CoreDump::Filtered => Ok(()),
            CoreDump::Excluded => mapping
                .exclude_from_core_dumps()
                .map_err(failure::of_call("madvise(MADV_DONTDUMP)")),
        }
    }
}

/// Brings all of a mapping's memory in.
fn prefault(mapping: &Mapping) -> Result<(), Error> {
    mapping
        .prefault(mapping.access())
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::InvalidInput => Error::Unsupported(Unsupported::Prefault),
            _ => failure::of_memory(mapping.len(), "madvise(MADV_POPULATE_WRITE)")(source),
        })
}
