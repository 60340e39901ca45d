//! Small queries: what the kernel and the header say about a segment.

use crate::error::Error;
use crate::init;
use crate::os::mem::Mapping;
use crate::os::mem::sysv_shm::{self, Id, Status};
use crate::segment::address::Target;
use crate::segment::failure;
use crate::segment::format::header::{self, Header};
use crate::segment::permissions::EXECUTE;

/// Mode bits of an unfinished segment. System V gives "execute" no meaning, and no
/// program grants it to the group and to all other users but not to the owner.
pub(super) const UNFINISHED: u32 = 0o011;

/// Returns the id that `target` leads to.
pub(super) fn find(target: &Target) -> Result<Id, Error> {
    match *target {
        Target::SystemVKey(key) => sysv_shm::find(key).map_err(failure::os_error("shmget")),
        Target::SystemVId(id) => Ok(Id(id)),
        Target::File(_) => Err(Error::NotASegment { address: None }),
    }
}

/// Returns the kernel's status of a segment, or `None` if the segment is gone.
pub(super) fn status_of(id: Id) -> Result<Option<Status>, Error> {
    match sysv_shm::status(id) {
        Err(error) if sysv_shm::is_removed_error(&error) => Ok(None),
        other => other
            .map(Some)
            .map_err(failure::os_error("shmctl(IPC_STAT)")),
    }
}

/// Returns whether the caller's attachment is the only one. The kernel counts across
/// pid namespaces.
pub(super) fn is_alone(id: Id) -> bool {
    sysv_shm::status(id).is_ok_and(|status| status.attached == 1)
}

/// Returns whether a segment has lost its key.
pub(super) fn is_removed(id: Id) -> bool {
    match sysv_shm::status(id) {
        Ok(status) => status.is_marked_for_removal,
        Err(error) => sysv_shm::is_removed_error(&error),
    }
}

/// Returns whether a mode is that of an unfinished segment.
pub(crate) fn is_marked_unfinished(mode: u32) -> bool {
    mode & EXECUTE == UNFINISHED
}

/// Reads the header of a mapped segment. The bytes are copied before they are checked,
/// so no process can change them afterwards.
pub(super) fn read_header(mapping: &Mapping, object_len: u64) -> Result<Header, Error> {
    let mut bytes = [0; header::LEN];
    mapping.copy_to(&mut bytes, 0);
    Header::parse(&bytes, object_len)
}

/// Returns whether the thread ids in the locks are those of this pid namespace.
pub(super) fn is_of_our_namespace(header: &Header) -> Result<bool, Error> {
    Ok(header.pid_namespace == init::init_context()?.pid_namespace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn numbers_are_documented() {
        documented::values(
            "permissions of an unfinished segment",
            &[("UNFINISHED", UNFINISHED.into())],
        );
    }
}
