//! How to create and open segments, beyond the defaults.

use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use super::address::{Address, Target};
use super::attach::Verdict;
use super::build::{by_value, in_place};
use super::content::{SegmentContent, VariableLength};
use super::hold::Hold;
use super::named::Unpublished;
use super::policy::{Abandoned, Pages, Removal, Residency};
use super::system_v::Creation;
use super::{ReadOnlySegment, Segment, Snapshot, failure, named, sealed, system_v};
use crate::error::{Error, Unsupported};
use crate::os::mman::{Access, Mapping, Pages as PageSize};
use crate::os::named_file::effective_user;
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
    abandoned: Abandoned,
    pub(super) pages: PageSize,
    pub(super) residency: Residency,
    trust: Trust,
}

/// Whose objects are opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// Those that the options describe.
    Expected,
    /// Anybody's: for looking at them, and for removing what is abandoned.
    Anybody,
}

impl SegmentOptions {
    /// The defaults: mode `0o600`, owned by this user, and all variants marked as
    /// default of [`Removal`], [`Abandoned`], [`Residency`] and [`Pages`].
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mode: 0o600,
            owner: None,
            group: None,
            removal: Removal::Persistent,
            abandoned: Abandoned::Reuse,
            pages: PageSize::Normal,
            residency: Residency::OnDemand,
            trust: Trust::Expected,
        }
    }

    /// Options that open whatever the system lets this process open.
    pub(crate) const fn of_anybody() -> Self {
        let mut options = Self::new();
        options.trust = Trust::Anybody;
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

    /// The user id that must own an object for it to be opened, if it is not
    /// this user ([`Error::WrongOwner`] otherwise). A new object is given to
    /// that user, which takes a privilege ([`Error::Os`] or
    /// [`Error::PermissionDenied`] otherwise).
    #[must_use]
    pub const fn owner(mut self, user: u32) -> Self {
        self.owner = Some(user);
        self
    }

    /// The id of the group that an object must have to be opened
    /// ([`Error::WrongGroup`] otherwise). A new object is given to that group,
    /// which takes a privilege if this user is not in it.
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
    pub const fn abandoned(mut self, abandoned: Abandoned) -> Self {
        self.abandoned = abandoned;
        self
    }

    /// Which pages a new segment consists of.
    #[must_use]
    pub const fn pages(mut self, pages: Pages) -> Self {
        self.pages = match pages {
            Pages::Normal => PageSize::Normal,
            Pages::Huge => PageSize::Huge,
        };
        self
    }

    /// When the memory is brought in, for this process.
    #[must_use]
    pub const fn residency(mut self, residency: Residency) -> Self {
        self.residency = residency;
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
    pub fn create_private<T: ShmSafe>(&self, value: T) -> Result<Segment<T>, Error> {
        match system_v::create(self, None, 0, &mut Some(by_value(value)))? {
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
        let (value, hold) = sealed::open(self, file)?;
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

    /// See [`Segment::snapshot_of`].
    ///
    /// # Errors
    ///
    /// As [`Segment::snapshot_of`].
    pub fn snapshot_of<T: SegmentContent + ?Sized>(
        &self,
        address: &str,
    ) -> Result<Snapshot<T>, Error> {
        Snapshot::of(&self.open_read_only(address)?)
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
        let (value, hold) = sealed::create(self, label, len, write)?;
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
        match target {
            Target::File(path) => named::open(self, path, access),
            _ => system_v::open(self, target, access),
        }
    }

    /// Removes a segment that nobody is attached to, if that is what to do with it.
    fn clear_abandoned(&self, target: &Target) -> Result<(), Error> {
        if self.abandoned == Abandoned::Reuse {
            return Ok(());
        }
        match remove_if_abandoned(self, target) {
            // What is none of ours stays, and is met again in a moment.
            Ok(_) | Err(Error::NotFound | Error::NotASegment) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Checks who owns an object, and who may write to it.
    pub(super) fn check_permissions(&self, owner: u32, group: u32, mode: u32) -> Result<(), Error> {
        /// The bits that let others than the owner write.
        const OTHERS_WRITE: u32 = 0o022;

        if self.trust == Trust::Anybody {
            return Ok(());
        }
        let expected = self.owner.unwrap_or_else(effective_user);
        if owner != expected {
            return Err(Error::WrongOwner {
                expected,
                found: owner,
            });
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

    /// Brings the memory in, as the options say.
    pub(super) fn settle_in(&self, mapping: &Mapping) -> Result<(), Error> {
        match self.residency {
            Residency::OnDemand => Ok(()),
            Residency::Prefaulted => prefault(mapping),
            Residency::Locked => mapping
                .lock_in_memory()
                .map_err(failure::of_memory_lock(mapping.len(), "mlock")),
        }
    }
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// Brings all of a mapping's memory in.
pub(super) fn prefault(mapping: &Mapping) -> Result<(), Error> {
    mapping
        .prefault(mapping.access())
        .map_err(|source| match source.kind() {
            std::io::ErrorKind::InvalidInput => Error::Unsupported(Unsupported::Prefault),
            _ => failure::of_memory(mapping.len(), "madvise(MADV_POPULATE_WRITE)")(source),
        })
}

/// Removes a segment that nobody is attached to.
pub(crate) fn remove_if_abandoned(
    options: &SegmentOptions,
    target: &Target,
) -> Result<Verdict, Error> {
    match target {
        Target::File(path) => named::remove_if_abandoned(options, path),
        _ => system_v::remove_abandoned_at(options, target),
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
/// [`Error::Blocked`] (another process that removes it has been stopped),
/// [`Error::Os`].
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
        Target::File(path) => super::attach::unlink(path).map_err(failure::of("unlink")),
        target => system_v::unlink(target),
    }
}

/// A creation that may have to be tried more than once, with a value that can be
/// made only once.
struct Attempt<T: SegmentContent + ?Sized, W> {
    write: Option<W>,
    built: Option<Unpublished<T>>,
}

impl<T: SegmentContent + ?Sized, W: FnOnce(NonNull<T>, usize)> Attempt<T, W> {
    fn new(write: W) -> Self {
        Self {
            write: Some(write),
            built: None,
        }
    }

    /// `None` if the address is taken.
    fn create(
        &mut self,
        options: &SegmentOptions,
        target: &Target,
        len: usize,
    ) -> Result<Option<(NonNull<T>, Hold)>, Error> {
        match target {
            Target::File(path) => {
                let built = match (self.built.take(), self.write.take()) {
                    (Some(built), _) => built,
                    (None, Some(write)) => Unpublished::build(options, path, len, write)?,
                    (None, None) => unreachable!("what was written is built"),
                };
                let directory = named::durable_directory(path);
                match built.publish(options, path) {
                    Ok(done) => {
                        // If it fails, the segment is there all the same: to say
                        // otherwise would be wrong.
                        let _ = directory.map(|directory| directory.sync_all());
                        Ok(Some(done))
                    }
                    Err((again, Error::AlreadyExists)) => {
                        self.built = Some(again);
                        Ok(None)
                    }
                    Err((_, error)) => Err(error),
                }
            }
            Target::SystemVKey(key) => {
                match system_v::create(options, Some(*key), len, &mut self.write)? {
                    Creation::Done(value, hold) => Ok(Some((value, hold))),
                    Creation::Exists => Ok(None),
                }
            }
            Target::SystemVId(_) => Err(Error::Unsupported(Unsupported::CreationById)),
        }
    }
}
