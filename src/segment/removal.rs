//! Removes segments, without an attachment to them.

use crate::error::Error;
use crate::segment::address::{Address, Target, ToAddress};
use crate::segment::backing::attachment::RemoveOutcome;
use crate::segment::backing::file;
use crate::segment::backing::sysv;
use crate::segment::permissions::Permissions;

/// Removes the name of a segment, or of any other object at the address. Processes that
/// have it open keep it. The memory is freed when the last of them drops it or ends.
///
/// Only this function removes the name of a segment that is in use. Later processes
/// then find no object, or a new one. To remove a segment when it is no longer used,
/// create it with [`Removal::UntilLastDetach`](crate::Removal::UntilLastDetach).
///
/// # Errors
///
/// [`Error::NotFound`], [`Error::PermissionDenied`], [`Error::InvalidName`],
/// [`Error::Os`], and [`Error::Blocked`] if another process that removes it is stopped.
///
/// # Example
///
/// ```
/// let missing = shm_sync::unlink("/shm-sync-doc-no-such-segment");
/// assert!(matches!(missing, Err(shm_sync::Error::NotFound { .. })));
/// ```
pub fn unlink(address: impl ToAddress) -> Result<(), Error> {
    let unlinked = Address::resolve(address, |target| match target {
        Target::File(path) => file::unlink(path),
        Target::SystemVKey(_) | Target::SystemVId(_) => sysv::unlink(target),
    });
    unlinked.map(|((), _)| ())
}

/// Removes a segment that no process is attached to.
pub(crate) fn remove_if_abandoned(
    permissions: &Permissions,
    target: &Target,
) -> Result<RemoveOutcome, Error> {
    match target {
        Target::File(path) => file::remove_if_abandoned(permissions, path),
        Target::SystemVKey(_) | Target::SystemVId(_) => {
            sysv::remove_abandoned_at(permissions, target)
        }
    }
}
