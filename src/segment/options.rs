//! How to create and open segments, beyond the defaults.

use super::Segment;
use super::name::Name;
use super::publish;
use crate::error::Error;
use crate::os::posix_shm;
use crate::shm_safe::ShmSafe;

/// Options for creating and opening segments.
///
/// ```
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-options-{}", std::process::id());
/// # let name = name.as_str();
/// type Counter = ShmMutex<u64>;
///
/// let shared_with_group = Segment::<Counter>::options()
///     .mode(0o660)
///     .create(name, Counter::new(0))?;
/// // A segment's type is known from how it is used, or from its declaration:
/// let opened: Segment<Counter> = Segment::<Counter>::options().mode(0o660).open(name)?;
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SegmentOptions {
    mode: u32,
    owner: Option<u32>,
}

impl SegmentOptions {
    /// The defaults: mode `0o600`, owned by this user.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            mode: 0o600,
            owner: None,
        }
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
    /// this user ([`Error::WrongOwner`] otherwise).
    #[must_use]
    pub const fn owner(mut self, user: u32) -> Self {
        self.owner = Some(user);
        self
    }

    /// See [`Segment::create`].
    ///
    /// # Errors
    ///
    /// As [`Segment::create`].
    pub fn create<T: ShmSafe>(&self, name: &str, value: T) -> Result<Segment<T>, Error> {
        let name = Name::parse(name)?;
        publish::Unpublished::build(self.mode, value)?
            .publish(name)
            .map_err(|(_, error)| error)
    }

    /// See [`Segment::open`].
    ///
    /// # Errors
    ///
    /// As [`Segment::open`].
    pub fn open<T: ShmSafe>(&self, name: &str) -> Result<Segment<T>, Error> {
        let name = Name::parse(name)?;
        publish::open(&name, self.mode, self.expected_owner())
    }

    /// See [`Segment::open_or_create`].
    ///
    /// # Errors
    ///
    /// As [`Segment::open_or_create`].
    pub fn open_or_create<T: ShmSafe>(
        &self,
        name: &str,
        init: impl FnOnce() -> T,
    ) -> Result<Segment<T>, Error> {
        let name = Name::parse(name)?;
        let open = || publish::open(&name, self.mode, self.expected_owner());
        match open() {
            Err(Error::NotFound) => {}
            other => return other,
        }
        let mut ours = publish::Unpublished::build(self.mode, init())?;
        // Each turn of the loop is one creation or removal by somebody else, so
        // somebody makes progress.
        loop {
            match ours.publish(name.clone()) {
                Ok(segment) => return Ok(segment),
                Err((again, Error::AlreadyExists)) => ours = again,
                Err((_, error)) => return Err(error),
            }
            match open() {
                Err(Error::NotFound) => {}
                other => return other,
            }
        }
    }

    fn expected_owner(&self) -> u32 {
        self.owner.unwrap_or_else(posix_shm::effective_user)
    }
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self::new()
    }
}
