//! `SegmentOptions`: plain data, and its setters.

use std::fmt;
use std::marker::PhantomData;

#[cfg(doc)]
use crate::error::Error;
use crate::segment::permissions::OwnerCheck;
use crate::segment::policy::{CoreDump, IfAbandoned, Pages, Removal, Residency};
use crate::segment::settings::Settings;

/// Options for creating and opening segments of type `T`.
///
/// Set the [options](#options) that differ from the defaults, then [create](#creating)
/// or [open](#opening). The setters are `const`, so options can be constants.
///
/// [`Segment::<T>::options()`](crate::Segment::options) and
/// [`SegmentOptions::<T>::new()`](Self::new) return the same options. Where another
/// argument determines `T`, `SegmentOptions::new()` is enough.
///
/// ```
/// use shm_sync::{Removal, Segment, SegmentOptions, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-options-{}", std::process::id());
/// # let name = name.as_str();
/// type Counter = ShmMutex<u64>;
///
/// const SHARED_WITH_GROUP: SegmentOptions<Counter> = SegmentOptions::new()
///     .mode(0o660)
///     .removal(Removal::UntilLastDetach);
/// let created = SHARED_WITH_GROUP.create(name, Counter::new(0))?;
/// let opened = Segment::<Counter>::options().mode(0o660).open(name)?;
/// # Ok(())
/// # }
/// ```
///
/// A value of another type does not compile:
///
/// ```compile_fail,E0308
/// # use shm_sync::{Segment, ShmMutex};
/// let options = Segment::<ShmMutex<u64>>::options();
/// let counter = options.create("/counter", ShmMutex::new(0_i32));
/// ```
///
/// In the cookbook: [several users](crate::guide::cookbook#several-users),
/// [signals and Ctrl-C](crate::guide::cookbook#signals-and-ctrl-c).
pub struct SegmentOptions<T: ?Sized> {
    pub(super) settings: Settings,
    pub(super) if_abandoned: IfAbandoned,
    content: PhantomData<fn(&T)>,
}

/// # Options
///
/// ```
/// use shm_sync::{CoreDump, IfAbandoned, Residency, Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-all-options-{}", std::process::id());
/// # let name = name.as_str();
/// let secrets = Segment::<ShmMutex<[u8; 32]>>::options()
///     .if_abandoned(IfAbandoned::Recreate)
///     .residency(Residency::Prefaulted)
///     .core_dump(CoreDump::Excluded)
///     .open_or_create(name, || ShmMutex::new([0; 32]))?;
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
impl<T: ?Sized> SegmentOptions<T> {
    /// Returns the defaults: mode `0o600`, owned by this user, and the default variants
    /// of [`Removal`], [`IfAbandoned`], [`Residency`], [`CoreDump`] and [`Pages`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            settings: Settings::DEFAULT,
            if_abandoned: IfAbandoned::Reuse,
            content: PhantomData,
        }
    }

    /// Sets the permission bits: the lowest nine bits of `mode`. Other bits are
    /// ignored.
    ///
    /// A new object gets exactly these bits: the umask is not applied. Opening fails if
    /// more users may *write* to the object than these bits allow
    /// ([`Error::TooPermissive`]).
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.settings.permissions.mode = mode & 0o777;
        self
    }

    /// Sets the user id of the owner. The default is this user.
    ///
    /// A new object is given to that user. This needs a privilege ([`Error::Os`]
    /// otherwise). Opening fails if another user owns the object
    /// ([`Error::WrongOwner`]).
    ///
    /// The creator of a System V segment keeps the right to write to it when it is
    /// given to another user. So the creator must be the expected owner as well, or
    /// this user, or root ([`Error::WrongCreator`] otherwise).
    #[must_use]
    pub const fn owner(mut self, user: u32) -> Self {
        self.settings.permissions.owner = Some(user);
        self.settings.permissions.owner_check = OwnerCheck::Owner;
        self
    }

    /// Accepts objects that any user owns, if their [`group`](Self::group) and
    /// [`mode`](Self::mode) are right. In this way the members of a group share a
    /// segment, and the first of them creates it.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let name = format!("/shm-sync-doc-any-owner-{}", std::process::id());
    /// # let name = name.as_str();
    /// # use std::os::unix::fs::MetadataExt;
    /// # let jobs_group = std::fs::metadata("/proc/self")?.gid();
    /// let options = Segment::<ShmMutex<u64>>::options()
    ///     .any_owner()
    ///     .group(jobs_group)
    ///     .mode(0o660);
    /// let jobs = options.open_or_create(name, || ShmMutex::new(0))?;
    /// # shm_sync::unlink(name)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The options must name the group, and `mode` must not let other users write
    /// ([`Error::NoTrustedGroup`] otherwise), because every user can put an object into
    /// the shared directory. This option and [`owner`](Self::owner) replace each other:
    /// the last call counts.
    ///
    /// # Trust
    ///
    /// Each member of the group is trusted, and root:
    ///
    /// * The user that creates the object owns it, may change its mode, and may shorten
    ///   a POSIX object or a file, which ends its users by `SIGBUS`.
    /// * In `/dev/shm` and other directories with the sticky bit, only the owner may
    ///   remove the object. This rule holds for System V segments, too. If another
    ///   member detaches last, the name of a [`Removal::UntilLastDetach`] segment
    ///   stays.
    /// * Only a member of the group and root can make a file that has it. In a
    ///   directory with the set-group-id bit, each new file of any user has the
    ///   directory's group. Let only trusted users write to such a directory.
    /// * The creator of a System V segment can give it to any group. So the creator's
    ///   effective group must be the group, or the creator root
    ///   ([`Error::WrongCreatorGroup`] otherwise). Membership by a supplementary group
    ///   is not enough to create one; `newgrp(1)` and `setgid(2)` make it the effective
    ///   one.
    #[must_use]
    pub const fn any_owner(mut self) -> Self {
        self.settings.permissions.owner = None;
        self.settings.permissions.owner_check = OwnerCheck::Group;
        self
    }

    /// Sets the group id. By default, any group is accepted.
    ///
    /// A new object is given to that group. This needs a privilege if this user is not
    /// in the group ([`Error::Os`] otherwise). Opening fails if the object has another
    /// group ([`Error::WrongGroup`]).
    ///
    /// The creator's group keeps its rights in a System V segment, too. So the
    /// effective group of the creator must be that group, or root's
    /// ([`Error::WrongCreatorGroup`] otherwise, also from creating).
    #[must_use]
    pub const fn group(mut self, group: u32) -> Self {
        self.settings.permissions.group = Some(group);
        self
    }

    /// Sets what happens to the name of a new segment when no process is attached any
    /// more. The segment stores it, so all processes that open it agree.
    #[must_use]
    pub const fn removal(mut self, removal: Removal) -> Self {
        self.settings.removal = removal;
        self
    }

    /// Sets how [`create`](Self::create) and [`open_or_create`](Self::open_or_create)
    /// treat an existing segment that no process is attached to.
    #[must_use]
    pub const fn if_abandoned(mut self, if_abandoned: IfAbandoned) -> Self {
        self.if_abandoned = if_abandoned;
        self
    }

    /// Sets the kind of pages of a new segment.
    #[must_use]
    pub const fn pages(mut self, pages: Pages) -> Self {
        self.settings.pages = pages;
        self
    }

    /// Sets when the memory is brought in, for this process.
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

impl<T: ?Sized> Default for SegmentOptions<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Not derived, because `T` need not be `Clone`.
impl<T: ?Sized> Clone for SegmentOptions<T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

/// Not derived, because `T` need not be `Debug`.
impl<T: ?Sized> fmt::Debug for SegmentOptions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentOptions")
            .field("type", &std::any::type_name::<T>())
            .field("settings", &self.settings)
            .field("if_abandoned", &self.if_abandoned)
            .finish()
    }
}
