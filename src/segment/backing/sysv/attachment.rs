//! `SysvAttachment`: removes the segment when the last process detaches.

use crate::error::Error;
use crate::os::mem::sysv_shm::{self, Id};
use crate::os::mem::{Access, Mapping};
use crate::segment::backing::sysv::query::read_header;
use crate::segment::backing::sysv::ready::Ready;
use crate::segment::backing::sysv::removal::{Unlocked, remove_if_abandoned, remove_if_alone};
use crate::segment::failure;
use crate::segment::permissions::Permissions;
use crate::segment::policy::Removal;

/// The attachment of this process to a System V segment.
///
/// A forked child has an attachment of its own, which the kernel counts. So dropping
/// the child's copy is the same as dropping any other attachment.
#[derive(Debug)]
pub(in crate::segment) struct SysvAttachment {
    /// `None` after [`detach`](Self::detach).
    mapping: Option<Mapping>,
    id: Id,
    removal: Removal,
    permissions: Permissions,
}

impl SysvAttachment {
    /// Makes this process a user, which removes the segment if it detaches last.
    pub(super) fn new(
        id: Id,
        mapping: Mapping,
        removal: Removal,
        permissions: Permissions,
    ) -> Self {
        Self {
            mapping: Some(mapping),
            id,
            removal,
            permissions,
        }
    }

    pub(in crate::segment) fn mapping(&self) -> &Mapping {
        let mapping = self.mapping.as_ref();
        mapping.unwrap_or_else(|| unreachable!("only `detach` takes it, which ends the value"))
    }

    pub(in crate::segment) fn id(&self) -> Id {
        self.id
    }

    /// Detaches. `drop` does the same, and ignores errors.
    pub(in crate::segment) fn close(mut self) -> Result<(), Error> {
        self.detach()
    }

    /// Detaches, and removes the segment if no other process is attached and its
    /// creator wants that. Does nothing when called again.
    fn detach(&mut self) -> Result<(), Error> {
        let Some(mapping) = self.mapping.take() else {
            return Ok(());
        };
        let is_transient = self.removal == Removal::UntilLastDetach;
        // Removes the segment before detaching, if this is the only attachment. So no
        // other process finds it abandoned.
        let may_be_last = is_transient
            && mapping.access() == Access::ReadWrite
            && sysv_shm::status(self.id)
                .is_ok_and(|status| status.attached == 1 && self.permissions.trusts(&status));
        // An error is ignored, because the check after `shmdt` meets it again.
        let is_removed = may_be_last
            && remove_if_alone(self.id, &mapping).is_ok_and(|removed| removed.is_some());
        let unmapped = mapping.unmap().map_err(failure::call_error("shmdt"));
        if !is_transient || is_removed {
            return unmapped;
        }
        // This process has detached, so the count of attachments is that of the others.
        let removed = remove_if_abandoned(&self.permissions, self.id, Unlocked::Keep);
        unmapped.and(removed.map(drop))
    }

    /// Returns whether the key or the id still leads to the segment. A key disappears
    /// only when its segment is removed.
    pub(in crate::segment) fn is_linked(&self) -> Result<bool, Error> {
        match sysv_shm::status(self.id()) {
            Err(error) if sysv_shm::is_removed_error(&error) => Ok(false),
            status => status
                .map(|status| !status.is_marked_for_removal)
                .map_err(failure::os_error("shmctl(IPC_STAT)")),
        }
    }
}

impl Drop for SysvAttachment {
    fn drop(&mut self) {
        // A process that may not remove the segment leaves it to other processes, and
        // to `gc`.
        let _ = self.detach();
    }
}

/// Detaches from a complete segment that this process did not use.
///
/// If a user detached meanwhile, it has counted this process. So this process detaches
/// as a user does. If no process was attached before, a crash has left the segment, and
/// it stays.
pub(super) fn detach_unused(ready: Ready, permissions: &Permissions, id: Id) {
    if ready.was_in_use {
        let removal = ready.header.removal;
        drop(SysvAttachment::new(
            id,
            ready.mapping,
            removal,
            *permissions,
        ));
    }
}

/// Detaches a reader from a segment that is not complete yet, or no longer. Detaches
/// like any user, because a process that detached concurrently has counted this
/// process.
pub(super) fn detach_reader(mapping: Mapping, permissions: &Permissions, id: Id) {
    if let Ok(header) = read_header(&mapping, mapping.len() as u64) {
        drop(SysvAttachment::new(
            id,
            mapping,
            header.removal,
            *permissions,
        ));
    }
}
