//! Which users may write to a System V segment, and which of them are trusted.

use crate::error::Error;
use crate::os::mem::sysv_shm::Status;
use crate::os::regular_file::effective_user;
use crate::segment::backing::sysv;
use crate::segment::options::{OwnerCheck, SegmentOptions};

/// The user and the group that the kernel lets do everything.
const ROOT: u32 = 0;

/// The bits that let other users than the owner write.
pub(super) const OTHERS_WRITE: u32 = 0o022;

impl SegmentOptions {
    /// Checks every identity to which the kernel grants rights in a System V segment.
    ///
    /// Beside owner and group these are the creator, which keeps all rights of the owner
    /// after giving the segment away, and the creator's group, to which the kernel
    /// grants what the mode grants to the group. The creator must be the expected owner,
    /// this user, or root. The creator's group must be the expected group, or root's.
    /// Where no group is expected, a trusted creator and owner have chosen both. Where any
    /// member of a group may be the owner, the creator must be such a member, or root.
    pub(super) fn check_system_v(&self, segment: &Status) -> Result<(), Error> {
        let mode = segment.mode & !sysv::EXECUTE;
        self.check_permissions(segment.owner, segment.group, mode)?;
        self.check_creator(segment.creator, segment.creator_group)
    }

    /// The part of [`check_system_v`](Self::check_system_v) that is about the creator.
    ///
    /// # Errors
    ///
    /// [`Error::WrongCreator`], [`Error::WrongCreatorGroup`].
    pub(super) fn check_creator(&self, creator: u32, group: u32) -> Result<(), Error> {
        let is_trusted_group = match self.trust {
            OwnerCheck::Anybody => return Ok(()),
            OwnerCheck::Owner => {
                let me = effective_user();
                let expected = self.owner.unwrap_or(me);
                if ![expected, me, ROOT].contains(&creator) {
                    let found = creator;
                    return Err(Error::WrongCreator { expected, found });
                }
                group == ROOT
            }
            // Any user may be the creator, so root's group does not vouch for it.
            OwnerCheck::Group => creator == ROOT,
        };
        match self.group {
            Some(expected) if group != expected && !is_trusted_group => {
                let found = group;
                Err(Error::WrongCreatorGroup { expected, found })
            }
            _ => Ok(()),
        }
    }

    /// Returns whether all users with the right to write to a System V segment are trusted.
    /// Only then may its lock be taken, and its content be believed.
    ///
    /// Options that open any user's segments expect no user. They trust this user and
    /// root, so a segment to which a group or all may write is a stranger's to them.
    pub(super) fn trusts(&self, segment: &Status) -> bool {
        match self.trust {
            OwnerCheck::Owner | OwnerCheck::Group => self.check_system_v(segment).is_ok(),
            OwnerCheck::Anybody => {
                let own = [effective_user(), ROOT];
                own.contains(&segment.owner)
                    && own.contains(&segment.creator)
                    && segment.mode & OTHERS_WRITE == 0
            }
        }
    }
}
