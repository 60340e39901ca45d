//! How to create and open segments, beyond the defaults.

use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use crate::error::Error;
use crate::os::mem::Access;
use crate::os::regular_file::effective_user;
use crate::segment::ReadOnlySegment;
use crate::segment::Segment;
use crate::segment::Snapshot;
use crate::segment::address::{Address, Target};
use crate::segment::attempt::Attempt;
use crate::segment::backing::Hold;
use crate::segment::backing::attachment::RemoveOutcome;
use crate::segment::backing::file;
use crate::segment::backing::memfd;
use crate::segment::backing::sysv;
use crate::segment::backing::sysv::Creation;
use crate::segment::content::{SegmentContent, VariableLength};
use crate::segment::failure;
use crate::segment::format::writer::{by_value, in_place};
use crate::segment::policy::{CoreDump, IfAbandoned, Pages, Removal, Residency};
use crate::segment::trust::OTHERS_WRITE;
use crate::shm_safe::ShmSafe;

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
    pub(super) mode: u32,
    pub(super) owner: Option<u32>,
    pub(super) group: Option<u32>,
    pub(super) removal: Removal,
    abandoned: IfAbandoned,
    pub(super) pages: Pages,
    pub(super) residency: Residency,
    pub(super) core_dump: CoreDump,
    pub(super) trust: OwnerCheck,
}

/// The users whose objects are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnerCheck {
    /// Those of one user, and of one group if one is named.
    Owner,
    /// Those of any user, if they have the group that is named.
    Group,
    /// Anybody's: for looking at them, and for removing what is abandoned.
    Anybody,
}

impl SegmentOptions {
    /// The defaults: mode `0o600`, owned by this user, and all variants marked as
    /// default of [`Removal`], [`IfAbandoned`], [`Residency`], [`CoreDump`] and [`Pages`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mode: 0o600,
            owner: None,
            group: None,
            removal: Removal::Persistent,
            abandoned: IfAbandoned::Reuse,
            pages: Pages::Normal,
            residency: Residency::OnDemand,
            core_dump: CoreDump::Filtered,
            trust: OwnerCheck::Owner,
        }
    }

    /// Options that open whatever the system lets this process open.
    pub(crate) const fn without_owner_check() -> Self {
        let mut options = Self::new();
        options.trust = OwnerCheck::Anybody;
        options
    }

    /// The permission bits. Creating gives the object exactly these; the umask
    /// is not applied. Opening refuses an object that more users may *write*
    /// to than these allow ([`Error::TooPermissive`]).
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
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
        self.owner = Some(user);
        self.trust = OwnerCheck::Owner;
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
        self.owner = None;
        self.trust = OwnerCheck::Group;
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
        self.group = Some(group);
        self
    }

    /// What becomes of a new segment's name when nobody is attached any more.
    /// It is written into the segment, so all who open it agree.
    #[must_use]
    pub const fn removal(mut self, removal: Removal) -> Self {
        self.removal = removal;
        self
    }

    /// What [`create`](Self::create) and [`open_or_create`](Self::open_or_create)
    /// do with an existing segment that nobody is attached to.
    #[must_use]
    pub const fn if_abandoned(mut self, abandoned: IfAbandoned) -> Self {
        self.abandoned = abandoned;
        self
    }

    /// Which pages a new segment consists of.
    #[must_use]
    pub const fn pages(mut self, pages: Pages) -> Self {
        self.pages = pages;
        self
    }

    /// When the memory is brought in, for this process.
    #[must_use]
    pub const fn residency(mut self, residency: Residency) -> Self {
        self.residency = residency;
        self
    }

    /// Sets whether core dumps of this process contain the memory.
    #[must_use]
    pub const fn core_dump(mut self, core_dump: CoreDump) -> Self {
        self.core_dump = core_dump;
        self
    }

    /// See [`Segment::create`].
    ///
    /// # Errors
    ///
    /// As [`Segment::create`]; see also the options.
    pub fn create<T: ShmSafe>(&self, address: &str, value: T) -> Result<Segment<T>, Error> {
        self.create_by(address, 0, by_value(value))
    }

    /// See [`Segment::create_in_place`].
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_in_place<T: ShmSafe>(
        &self,
        address: &str,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error> {
        self.create_by(address, 0, in_place(init))
    }

    /// See [`Segment::create_with_len`].
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_with_len<T: VariableLength + ?Sized>(
        &self,
        address: &str,
        len: usize,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error> {
        self.create_by(address, len, in_place(init))
    }

    /// Creates a System V segment without a key (`IPC_PRIVATE`), which others find
    /// by its id: [`Segment::address`].
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_system_v_private<T: ShmSafe>(&self, value: T) -> Result<Segment<T>, Error> {
        self.check_trust()?;
        match sysv::create(self, None, 0, &mut Some(by_value(value)))? {
            Creation::Done(value, hold) => {
                let address = hold.system_v_id().map(|id| Address::system_v_id(id.0));
                // SAFETY: created just now, with this value.
                Ok(unsafe { Segment::new(value, hold, address) })
            }
            Creation::Exists => Err(Error::AlreadyExists),
        }
    }

    /// See [`Segment::anonymous`].
    ///
    /// # Errors
    ///
    /// As [`Segment::anonymous`]; see also the options.
    pub fn anonymous<T: ShmSafe>(&self, label: &str, value: T) -> Result<Segment<T>, Error> {
        self.anonymous_by(label, 0, by_value(value))
    }

    /// As [`anonymous`](Self::anonymous), made in place: see
    /// [`Segment::create_in_place`].
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Self::anonymous).
    pub fn anonymous_in_place<T: ShmSafe>(
        &self,
        label: &str,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error> {
        self.anonymous_by(label, 0, in_place(init))
    }

    /// As [`anonymous`](Self::anonymous), with a length chosen now: see
    /// [`Segment::create_with_len`].
    ///
    /// # Errors
    ///
    /// As [`anonymous`](Self::anonymous).
    pub fn anonymous_with_len<T: VariableLength + ?Sized>(
        &self,
        label: &str,
        len: usize,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error> {
        self.anonymous_by(label, len, in_place(init))
    }

    /// See [`Segment::from_fd`].
    ///
    /// # Errors
    ///
    /// As [`Segment::from_fd`].
    pub fn from_fd<T: SegmentContent + ?Sized>(&self, file: OwnedFd) -> Result<Segment<T>, Error> {
        let (value, hold) = memfd::open(self, file)?;
        // SAFETY: checked to hold such a value.
        Ok(unsafe { Segment::new(value, hold, None) })
    }

    /// See [`Segment::open`].
    ///
    /// # Errors
    ///
    /// As [`Segment::open`].
    pub fn open<T: SegmentContent + ?Sized>(&self, address: &str) -> Result<Segment<T>, Error> {
        let address: Address = address.parse()?;
        let (value, hold) = self.open_at(&address.target()?, Access::ReadWrite)?;
        // SAFETY: checked to hold such a value.
        Ok(unsafe { Segment::new(value, hold, Some(address)) })
    }

    /// See [`Segment::open_read_only`].
    ///
    /// # Errors
    ///
    /// As [`Segment::open_read_only`].
    pub fn open_read_only<T: SegmentContent + ?Sized>(
        &self,
        address: &str,
    ) -> Result<ReadOnlySegment<T>, Error> {
        let address: Address = address.parse()?;
        let (value, hold) = self.open_at(&address.target()?, Access::ReadOnly)?;
        // SAFETY: checked to hold such a value.
        Ok(unsafe { ReadOnlySegment::new(value, hold, address) })
    }

    /// See [`Segment::open_snapshot`].
    ///
    /// # Errors
    ///
    /// As [`Segment::open_snapshot`].
    pub fn open_snapshot<T: SegmentContent + ?Sized>(
        &self,
        address: &str,
    ) -> Result<Snapshot<T>, Error> {
        Snapshot::of(&self.open_read_only(address)?, self)
    }

    /// See [`Segment::open_or_create`].
    ///
    /// # Errors
    ///
    /// As [`Segment::open_or_create`].
    pub fn open_or_create<T: ShmSafe>(
        &self,
        address: &str,
        init: impl FnOnce() -> T,
    ) -> Result<Segment<T>, Error> {
        self.open_or_create_by(address, 0, |to, len| by_value(init())(to, len))
    }

    /// As [`open_or_create`](Self::open_or_create), made in place: see
    /// [`Segment::create_in_place`].
    ///
    /// # Errors
    ///
    /// As [`open_or_create`](Self::open_or_create).
    pub fn open_or_create_in_place<T: ShmSafe>(
        &self,
        address: &str,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error> {
        self.open_or_create_by(address, 0, in_place(init))
    }

    /// As [`open_or_create`](Self::open_or_create), with `len` elements if it is
    /// created: see [`Segment::create_with_len`]. One that exists has the length
    /// that its creator chose.
    ///
    /// # Errors
    ///
    /// As [`open_or_create`](Self::open_or_create).
    pub fn open_or_create_with_len<T: VariableLength + ?Sized>(
        &self,
        address: &str,
        len: usize,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error> {
        self.open_or_create_by(address, len, in_place(init))
    }

    fn anonymous_by<T: SegmentContent + ?Sized>(
        &self,
        label: &str,
        len: usize,
        write: impl FnOnce(NonNull<T>, usize),
    ) -> Result<Segment<T>, Error> {
        let (value, hold) = memfd::create(self, label, len, write)?;
        // SAFETY: created just now, with this value.
        Ok(unsafe { Segment::new(value, hold, None) })
    }

    fn create_by<T: SegmentContent + ?Sized>(
        &self,
        address: &str,
        len: usize,
        write: impl FnOnce(NonNull<T>, usize),
    ) -> Result<Segment<T>, Error> {
        let address: Address = address.parse()?;
        let target = address.target()?;
        self.check_trust()?;
        self.clear_abandoned(&target)?;
        let mut attempt = Attempt::new(write);
        match attempt.create(self, &target, len)? {
            // SAFETY: created just now, with this value.
            Some((value, hold)) => Ok(unsafe { Segment::new(value, hold, Some(address)) }),
            None => Err(Error::AlreadyExists),
        }
    }

    fn open_or_create_by<T: SegmentContent + ?Sized>(
        &self,
        address: &str,
        len: usize,
        write: impl FnOnce(NonNull<T>, usize),
    ) -> Result<Segment<T>, Error> {
        let address: Address = address.parse()?;
        let target = address.target()?;
        self.check_trust()?;
        self.clear_abandoned(&target)?;
        let mut attempt = Attempt::new(write);
        // Each turn of the loop is one creation or removal by somebody else, so
        // somebody makes progress.
        let (value, hold) = loop {
            match self.open_at(&target, Access::ReadWrite) {
                Err(Error::NotFound) => {}
                other => break other?,
            }
            if let Some(created) = attempt.create(self, &target, len)? {
                break created;
            }
        };
        // SAFETY: created just now with this value, or checked to hold such a one.
        Ok(unsafe { Segment::new(value, hold, Some(address)) })
    }

    fn open_at<T: SegmentContent + ?Sized>(
        &self,
        target: &Target,
        access: Access,
    ) -> Result<(NonNull<T>, Hold), Error> {
        self.check_trust()?;
        match target {
            Target::File(path) => file::open(self, path, access),
            _ => sysv::open(self, target, access),
        }
    }

    /// Removes a segment that nobody is attached to, if that is what to do with it.
    fn clear_abandoned(&self, target: &Target) -> Result<(), Error> {
        if self.abandoned == IfAbandoned::Reuse {
            return Ok(());
        }
        match remove_if_abandoned(self, target) {
            // What is none of ours stays, and is met again in a moment.
            Ok(_) | Err(Error::NotFound | Error::NotASegment) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Checks that the options name a group if they trust its members.
    fn check_trust(&self) -> Result<(), Error> {
        /// The bit that lets users write that are neither owner nor members of the group.
        const STRANGERS_WRITE: u32 = 0o002;

        let is_named = self.group.is_some() && self.mode & STRANGERS_WRITE == 0;
        match self.trust {
            OwnerCheck::Group if !is_named => Err(Error::NoTrustedGroup),
            _ => Ok(()),
        }
    }

    /// Checks who owns an object, and who may write to it.
    pub(super) fn check_permissions(&self, owner: u32, group: u32, mode: u32) -> Result<(), Error> {
        match self.trust {
            OwnerCheck::Anybody => return Ok(()),
            OwnerCheck::Group => {}
            OwnerCheck::Owner => {
                let expected = self.owner.unwrap_or_else(effective_user);
                if owner != expected {
                    return Err(Error::WrongOwner {
                        expected,
                        found: owner,
                    });
                }
            }
        }
        match self.group {
            Some(expected) if group != expected => Err(Error::WrongGroup {
                expected,
                found: group,
            }),
            _ if mode & OTHERS_WRITE & !self.mode != 0 => Err(Error::TooPermissive {
                allowed: self.mode,
                found: mode,
            }),
            _ => Ok(()),
        }
    }
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Removes a segment that nobody is attached to.
pub(crate) fn remove_if_abandoned(
    options: &SegmentOptions,
    target: &Target,
) -> Result<RemoveOutcome, Error> {
    match target {
        Target::File(path) => file::remove_if_abandoned(options, path),
        _ => sysv::remove_abandoned_at(options, target),
    }
}

/// Takes the name of a segment away, or of whatever else has it. Processes that have
/// it open keep it; the memory is freed when the last of them drops it or dies.
///
/// This is the one function that takes a name away from under those who use it:
/// those who come later find nothing, or a new object. What should go when it is
/// not used any more is better created with [`Removal::UntilLastDetach`].
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
/// assert!(matches!(missing, Err(shm_sync::Error::NotFound)));
/// ```
pub fn unlink(address: &str) -> Result<(), Error> {
    let address: Address = address.parse()?;
    match &address.target()? {
        Target::File(path) => {
            crate::segment::backing::attachment::unlink(path).map_err(failure::of_removal("unlink"))
        }
        target => sysv::unlink(target),
    }
}
