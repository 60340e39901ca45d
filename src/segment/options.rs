//! `SegmentOptions`: plain data, and its setters.

use crate::segment::permissions::OwnerCheck;
use crate::segment::policy::{CoreDump, IfAbandoned, Pages, Removal, Residency};
use crate::segment::settings::Settings;

/// Options for creating and opening segments.
///
/// ```
/// use shm_sync::{Removal, Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-options-{}", std::process::id());
/// # let name = name.as_str();
/// type Counter = ShmMutex<u64>;
///
/// let shared_with_group = Segment::<Counter>::options()
///     .mode(0o660)
///     .removal(Removal::UntilLastDetach)
///     .create(name, Counter::new(0))?;
/// // A segment's type is known from how it is used, or from its declaration:
/// let opened: Segment<Counter> = Segment::<Counter>::options().mode(0o660).open(name)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SegmentOptions {
    pub(super) settings: Settings,
    pub(super) if_abandoned: IfAbandoned,
}

impl SegmentOptions {
    /// The defaults: mode `0o600`, owned by this user, and all variants marked as
    /// default of [`Removal`], [`IfAbandoned`], [`Residency`], [`CoreDump`] and [`Pages`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            settings: Settings::DEFAULT,
            if_abandoned: IfAbandoned::Reuse,
        }
    }

    /// The permission bits. Creating gives the object exactly these; the umask
    /// is not applied. Opening refuses an object that more users may *write*
    /// to than these allow ([`Error::TooPermissive`]).
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.settings.permissions.mode = mode & 0o777;
        self
    }

    /// Sets the user id that must own an object for it to be opened
    /// ([`Error::WrongOwner`] otherwise). The default is this user. A new object is given
    /// to that user, which takes a privilege ([`Error::Os`] otherwise).
    ///
    /// The creator of a System V segment keeps the right to write to it when it is given
    /// to another user. So the creator must be the expected owner as well, or this user,
    /// or root ([`Error::WrongCreator`] otherwise).
    #[must_use]
    pub const fn owner(mut self, user: u32) -> Self {
        self.settings.permissions.owner = Some(user);
        self.settings.permissions.owner_check = OwnerCheck::Owner;
        self
    }

    /// Opens a segment whichever user owns it, if its [`group`](Self::group) and
    /// [`mode`](Self::mode) are right. Members of one group share a segment so, and
    /// the first of them creates it.
    ///
    /// ```
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// use shm_sync::{Segment, ShmMutex};
    ///
    /// # let name = format!("/shm-sync-doc-any-owner-{}", std::process::id());
    /// # let name = name.as_str();
    /// # use std::os::unix::fs::MetadataExt;
    /// # let jobs_group = std::fs::metadata("/proc/self").unwrap().gid();
    /// let options = Segment::<ShmMutex<u64>>::options()
    ///     .any_owner()
    ///     .group(jobs_group)
    ///     .mode(0o660);
    /// let jobs = options.open_or_create(name, || ShmMutex::new(0))?;
    /// # shm_sync::unlink(name)
    /// # }
    /// ```
    ///
    /// The options must name the group, and `mode` must not let other users write
    /// ([`Error::NoTrustedGroup`] otherwise), because every user can put an object into
    /// the shared directory. The later one of this option and [`owner`](Self::owner)
    /// counts.
    ///
    /// # Trust
    ///
    /// Each member of the group is trusted, and root:
    ///
    /// * The user that creates the object owns it, may change its mode, and may shorten
    ///   a POSIX object or a file, which ends its users by `SIGBUS`.
    /// * In `/dev/shm` and other directories with the sticky bit, and of System V, only
    ///   the owner may remove it. If another member is the last one out, the name of an
    ///   [`Removal::UntilLastDetach`] segment stays.
    /// * Only a member of the group and root can make a file that has it. In a
    ///   directory with the set-group-id bit, each new file has the directory's group,
    ///   whichever user creates it. Let only trusted users write to such a directory.
    /// * A System V segment can be given to any group by its creator. So its creator's
    ///   effective group must be the group, or the creator root
    ///   ([`Error::WrongCreatorGroup`] otherwise). Membership by a
    ///   supplementary group is not enough to create one; `newgrp(1)` and
    ///   `setgid(2)` make it the effective one.
    #[must_use]
    pub const fn any_owner(mut self) -> Self {
        self.settings.permissions.owner = None;
        self.settings.permissions.owner_check = OwnerCheck::Group;
        self
    }

    /// Sets the id of the group that an object must have to be opened
    /// ([`Error::WrongGroup`] otherwise). A new object is given to that group,
    /// which takes a privilege if this user is not in it ([`Error::Os`] otherwise).
    ///
    /// The creator's group keeps its rights in a System V segment, too. So the effective
    /// group of the creator must be that group, or root's
    /// ([`Error::WrongCreatorGroup`] otherwise, also from creating).
    #[must_use]
    pub const fn group(mut self, group: u32) -> Self {
        self.settings.permissions.group = Some(group);
        self
    }

    /// What becomes of a new segment's name when nobody is attached any more.
    /// It is written into the segment, so all who open it agree.
    #[must_use]
    pub const fn removal(mut self, removal: Removal) -> Self {
        self.settings.removal = removal;
        self
    }

    /// What [`create`](Self::create) and [`open_or_create`](Self::open_or_create)
    /// do with an existing segment that nobody is attached to.
    #[must_use]
    pub const fn if_abandoned(mut self, abandoned: IfAbandoned) -> Self {
        self.if_abandoned = abandoned;
        self
    }

    /// Which pages a new segment consists of.
    #[must_use]
    pub const fn pages(mut self, pages: Pages) -> Self {
        self.settings.pages = pages;
        self
    }

    /// When the memory is brought in, for this process.
    #[must_use]
    pub const fn residency(mut self, residency: Residency) -> Self {
        self.settings.memory.residency = residency;
        self
    }

    /// Sets whether core dumps of this process contain the memory.
    #[must_use]
    pub const fn core_dump(mut self, core_dump: CoreDump) -> Self {
        self.settings.memory.core_dump = core_dump;
        self
    }
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self::new()
    }
}
