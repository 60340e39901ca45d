//! Owner, group and mode that a new object gets and that an existing object must have.

use crate::error::Error;
use crate::os::mem::sysv_shm::Status;
use crate::os::regular_file::effective_user;

/// The user and the group to which the kernel grants every right.
const ROOT: u32 = 0;

/// The mode bits that let other users than the owner write.
const OTHERS_WRITE: u32 = 0o022;

/// The mode bit that lets users write that are neither the owner nor in the group.
const STRANGERS_WRITE: u32 = 0o002;

/// The mode bits to which System V gives no meaning. This crate marks unfinished
/// segments with them.
pub(in crate::segment) const EXECUTE: u32 = 0o111;

/// The users that a process trusts, and the permissions that it gives to new objects.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Permissions {
    /// Permission bits of a new object, and the most that an existing object may have.
    pub(in crate::segment) mode: u32,
    /// User id of the owner. `None` is this user.
    pub(in crate::segment) owner: Option<u32>,
    /// Group id. `None` accepts every group.
    pub(in crate::segment) group: Option<u32>,
    pub(in crate::segment) owner_check: OwnerCheck,
}

/// Which owners an existing object may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::segment) enum OwnerCheck {
    /// One user, and one group if the options name a group.
    Owner,
    /// Any user, if the object has the group that the options name.
    Group,
    /// Any user: for inspection, and for the removal of abandoned objects.
    Skip,
}

impl Permissions {
    /// Mode `0o600`, owned by this user, any group.
    pub(in crate::segment) const DEFAULT: Self = Self {
        mode: 0o600,
        owner: None,
        group: None,
        owner_check: OwnerCheck::Owner,
    };

    /// Returns permissions that accept every object that the kernel lets this process
    /// open.
    pub(crate) const fn without_owner_check() -> Self {
        Self {
            owner_check: OwnerCheck::Skip,
            ..Self::DEFAULT
        }
    }

    /// Checks that the group is named if its members are trusted.
    ///
    /// # Errors
    ///
    /// [`Error::NoTrustedGroup`].
    pub(in crate::segment) fn check_trusted_group(&self) -> Result<(), Error> {
        let is_named = self.group.is_some() && self.mode & STRANGERS_WRITE == 0;
        match self.owner_check {
            OwnerCheck::Group if !is_named => Err(Error::NoTrustedGroup { address: None }),
            _ => Ok(()),
        }
    }

    /// Checks the owner, the group and the mode of an object.
    ///
    /// # Errors
    ///
    /// [`Error::WrongOwner`], [`Error::WrongGroup`], [`Error::TooPermissive`].
    pub(in crate::segment) fn check(&self, owner: u32, group: u32, mode: u32) -> Result<(), Error> {
        match self.owner_check {
            OwnerCheck::Skip => return Ok(()),
            OwnerCheck::Group => {}
            OwnerCheck::Owner => {
                let expected = self.owner.unwrap_or_else(effective_user);
                if owner != expected {
                    return Err(Error::WrongOwner {
                        address: None,
                        expected,
                        found: owner,
                    });
                }
            }
        }
        match self.group {
            Some(expected) if group != expected => Err(Error::WrongGroup {
                address: None,
                expected,
                found: group,
            }),
            _ if mode & OTHERS_WRITE & !self.mode != 0 => Err(Error::TooPermissive {
                address: None,
                allowed: self.mode,
                found: mode,
            }),
            _ => Ok(()),
        }
    }

    /// Checks every identity to which the kernel grants rights in a System V segment.
    ///
    /// These are the owner and the group, and besides them the creator and the
    /// creator's group. The creator keeps all rights of the owner after it gives the
    /// segment away. The creator's group has the rights that the mode grants to the
    /// group.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check) and [`check_creator`](Self::check_creator).
    pub(in crate::segment) fn check_system_v(&self, segment: &Status) -> Result<(), Error> {
        let mode = segment.mode & !EXECUTE;
        self.check(segment.owner, segment.group, mode)?;
        self.check_creator(segment.creator, segment.creator_group)
    }

    /// Checks the creator of a System V segment.
    ///
    /// | options | the creator must be | the creator's group must be |
    /// |---|---|---|
    /// | an owner | the owner, this user, or root | the named group, or root's |
    /// | any owner in a group | any user | the named group, or the creator is root |
    ///
    /// If the options name no group, any group of the creator is accepted: a trusted
    /// creator and a trusted owner have chosen it.
    ///
    /// # Errors
    ///
    /// [`Error::WrongCreator`], [`Error::WrongCreatorGroup`].
    pub(in crate::segment) fn check_creator(&self, creator: u32, group: u32) -> Result<(), Error> {
        let is_trusted_group = match self.owner_check {
            OwnerCheck::Skip => return Ok(()),
            OwnerCheck::Owner => {
                let me = effective_user();
                let expected = self.owner.unwrap_or(me);
                if ![expected, me, ROOT].contains(&creator) {
                    return Err(Error::WrongCreator {
                        address: None,
                        expected,
                        found: creator,
                    });
                }
                group == ROOT
            }
            // Any user may be the creator, so root's group is no proof that it is
            // trusted.
            OwnerCheck::Group => creator == ROOT,
        };
        match self.group {
            Some(expected) if group != expected && !is_trusted_group => {
                Err(Error::WrongCreatorGroup {
                    address: None,
                    expected,
                    found: group,
                })
            }
            _ => Ok(()),
        }
    }

    /// Returns whether every user with the right to write to a System V segment is
    /// trusted. Only then may this process use its lock and rely on its content.
    ///
    /// Without an owner check, this user and root are trusted. A segment that a group
    /// or all users may write to is then not trusted.
    pub(in crate::segment) fn trusts(&self, segment: &Status) -> bool {
        match self.owner_check {
            OwnerCheck::Owner | OwnerCheck::Group => self.check_system_v(segment).is_ok(),
            OwnerCheck::Skip => {
                let own = [effective_user(), ROOT];
                own.contains(&segment.owner)
                    && own.contains(&segment.creator)
                    && segment.mode & OTHERS_WRITE == 0
            }
        }
    }
}
