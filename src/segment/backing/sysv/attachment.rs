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
    // Dropped in this order: the check of `after` needs a process that has detached.
    mapping: Mapping,
    after: RemoveAfterDetach,
}

impl SysvAttachment {
    /// Makes this process a user, which removes the segment if it detaches last.
    pub(super) fn new(
        id: Id,
        mapping: Mapping,
        removal: Removal,
        permissions: Permissions,
    ) -> Self {
        let after = RemoveAfterDetach {
            id,
            removal,
            permissions,
        };
        Self { mapping, after }
    }

    pub(in crate::segment) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    pub(in crate::segment) fn id(&self) -> Id {
        self.after.id
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
    /// Removes the segment before detaching, if this is the only attachment. So no
    /// other process finds it abandoned.
    fn drop(&mut self) {
        let after = &mut self.after;
        let may_be_last = after.removal == Removal::UntilLastDetach
            && self.mapping.access() == Access::ReadWrite
            && sysv_shm::status(after.id)
                .is_ok_and(|status| status.attached == 1 && after.permissions.trusts(&status));
        if may_be_last
            && remove_if_alone(after.id, &self.mapping).is_ok_and(|removed| removed.is_some())
        {
            after.removal = Removal::Persistent; // nothing is left to do after `shmdt`
        }
    }
}

/// Checks on drop, after this process has detached, whether the segment is abandoned.
#[derive(Debug)]
struct RemoveAfterDetach {
    id: Id,
    removal: Removal,
    permissions: Permissions,
}

impl Drop for RemoveAfterDetach {
    fn drop(&mut self) {
        if self.removal == Removal::UntilLastDetach {
            // A process that may not remove it leaves it to other processes, and to
            // `gc`.
            let _ = remove_if_abandoned(&self.permissions, self.id, Unlocked::Keep);
        }
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
