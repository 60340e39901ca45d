//! Creates and opens segments.
//!
//! This is the top of the segments: it calls the backings, and no file below calls it.

use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use crate::error::Error;
use crate::os::mem::Access;
use crate::segment::address::{Address, Target, ToAddress};
use crate::segment::backing::Attachment;
use crate::segment::backing::file;
use crate::segment::backing::mapped::Mapped;
use crate::segment::backing::memfd;
use crate::segment::backing::sysv;
use crate::segment::format::writer::{ValidAsZeros, by_value, in_place};
use crate::segment::handle::Segment;
use crate::segment::options::SegmentOptions;
use crate::segment::pending_create::PendingCreate;
use crate::segment::policy::IfAbandoned;
use crate::segment::read_only::ReadOnlySegment;
use crate::segment::removal::remove_if_abandoned;
use crate::segment::settings::Settings;
use crate::segment::snapshot::Snapshot;
use crate::shm_safe::{SegmentContent, ShmSafe, TearFree, VariableLength};

impl<T: ShmSafe> Segment<T> {
    /// Creates the object `address` that contains `value`. Only this user may open it:
    /// see [`SegmentOptions::mode`].
    ///
    /// [`SegmentOptions::create_in_place`] creates values that do not fit on a stack,
    /// and [`SegmentOptions::create_with_len`] slices. `value` is lost after an error.
    ///
    /// ```
    /// use shm_sync::{Error, Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// # let name = format!("/shm-sync-doc-create-{}", std::process::id());
    /// # let name = name.as_str();
    /// let jobs = Segment::create(name, ShmMutex::new(0_u64))?;
    /// let again = Segment::create(name, ShmMutex::new(0_u64));
    /// assert!(matches!(again, Err(Error::AlreadyExists { .. })));
    /// # shm_sync::unlink(name)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Error::AlreadyExists`]: the address is taken, by a segment or by another
    ///   object.
    /// * [`Error::NoSpace`]: the file system, a quota or a limit of this process has no
    ///   room for it.
    /// * [`Error::InvalidName`], [`Error::PermissionDenied`],
    ///   [`Error::Unsupported`], [`Error::Unidentified`], [`Error::Os`].
    pub fn create(address: impl ToAddress, value: T) -> Result<Self, Error> {
        SegmentOptions::new().create(address, value)
    }

    /// Opens the object `address`, or creates it with the value of `init` if it does
    /// not exist. If several processes do this at once, one of them creates the object,
    /// and the other processes open it.
    ///
    /// Calls `init` only if the object does not exist at first. Drops its value if
    /// another process is faster. A program that must know whether it has created the
    /// object calls [`create`](Self::create), and [`open`](Self::open) after
    /// [`Error::AlreadyExists`].
    ///
    /// ```
    /// use shm_sync::{Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// # let name = format!("/shm-sync-doc-open-or-create-{}", std::process::id());
    /// # let name = name.as_str();
    /// let jobs = Segment::open_or_create(name, || ShmMutex::new(7_u64))?;
    /// let same = Segment::open_or_create(name, || ShmMutex::new(8_u64))?;
    /// assert_eq!(*same.lock()?, 7);
    /// # shm_sync::unlink(name)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open) and [`create`](Self::create), except
    /// [`Error::NotFound`] and [`Error::AlreadyExists`].
    ///
    /// # Panics
    ///
    /// If `init` panics, no object is created.
    pub fn open_or_create(
        address: impl ToAddress,
        init: impl FnOnce() -> T,
    ) -> Result<Self, Error> {
        SegmentOptions::new().open_or_create(address, init)
    }

    /// Creates a segment without a name that contains `value`. Children that this
    /// process forks share it, and processes that get its [descriptor](Self::as_fd).
    ///
    /// ```
    /// use shm_sync::{Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let shared_with_children = Segment::anonymous(ShmMutex::new(0_u64))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], [`Error::Unidentified`], [`Error::Os`].
    pub fn anonymous(value: T) -> Result<Self, Error> {
        SegmentOptions::new().anonymous("anonymous", value)
    }
}

impl<T: SegmentContent + ?Sized> Segment<T> {
    /// Opens the object `address`, which must exist and contain a `T` of the same
    /// layout.
    ///
    /// ```
    /// use shm_sync::{Error, Segment, ShmMutex};
    ///
    /// let missing = Segment::<ShmMutex<u64>>::open("/shm-sync-doc-no-such-segment");
    /// assert!(matches!(missing, Err(Error::NotFound { .. })));
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Error::NotFound`]: no object has the address.
    /// * [`Error::WrongOwner`], [`Error::WrongGroup`], [`Error::TooPermissive`],
    ///   [`Error::WrongCreator`], [`Error::WrongCreatorGroup`]: an untrusted user owns
    ///   the object or may write to it.
    /// * [`Error::NotASegment`], [`Error::UnsupportedFormat`],
    ///   [`Error::Corrupt`], [`Error::LayoutMismatch`]: the object is something else.
    /// * [`Error::ForeignPidNamespace`]: it is in use in another container.
    /// * [`Error::InUse`]: it looks like a copy, or like a file of another boot of the
    ///   machine, and processes use it.
    /// * [`Error::Unfinished`]: another process creates, reinitialises or removes the
    ///   System V segment, and is stopped or slow.
    /// * [`Error::Blocked`]: another process holds a lock on the file that this call
    ///   needs.
    /// * [`Error::InvalidName`], [`Error::PermissionDenied`],
    ///   [`Error::Unidentified`], [`Error::Os`].
    pub fn open(address: impl ToAddress) -> Result<Self, Error> {
        SegmentOptions::new().open(address)
    }

    /// Opens the object `address` read-only. Its memory is mapped for reading, and
    /// locking does not compile: see [`ReadOnly`](crate::ReadOnly). This process needs
    /// no right to write. [`ReadOnlySegment`] has an example.
    ///
    /// Owner, group and mode are checked as by [`open`](Self::open), because every
    /// process that may write to the object could make the bytes invalid for `T`, or
    /// shorten the file. So a reader of another user's segment names that user with
    /// [`SegmentOptions::owner`] ([`Error::WrongOwner`] otherwise).
    ///
    /// Returns [`Error::NotFound`] for a System V segment that is being created or
    /// removed.
    ///
    /// On overlayfs (containers), the kernel copies a file of a lower layer, such as an
    /// image, when a process first opens it for writing. A reader that opened the file
    /// before never sees later changes. overlayfs treats every shared mapping so. Let a
    /// writer open such a file first, or keep it on a volume.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open), except [`Error::ForeignPidNamespace`],
    /// [`Error::InUse`] and [`Error::Unidentified`]. A reader locks no mutex, so it
    /// needs no process ids in common with the other processes.
    pub fn open_read_only(address: impl ToAddress) -> Result<ReadOnlySegment<T>, Error> {
        SegmentOptions::new().open_read_only(address)
    }

    /// Returns the default options for segments of this type. Their methods choose
    /// owner, group, mode, removal, pages, residency and core dumps: see
    /// [`SegmentOptions`] for an example.
    #[must_use]
    pub const fn options() -> SegmentOptions<T> {
        SegmentOptions::new()
    }
}

/// # Creating
impl<T: ?Sized> SegmentOptions<T> {
    /// Creates the object `address` that contains `value`: see [`Segment::create`].
    ///
    /// # Errors
    ///
    /// Those of [`Segment::create`], and those of the options that are set.
    pub fn create(&self, address: impl ToAddress, value: T) -> Result<Segment<T>, Error>
    where
        T: ShmSafe,
    {
        self.create_with(address, 0, by_value(value))
    }

    /// Creates the object `address` with a value that is written in its final place,
    /// and so may be larger than a stack. All its bytes are zero first, and then `init`
    /// may change it. Types that zero bytes could make invalid are rejected at compile
    /// time.
    ///
    /// ```
    /// use shm_sync::{SegmentOptions, ShmMutex, ShmSafe};
    ///
    /// #[derive(ShmSafe)]
    /// #[repr(C)]
    /// struct Frame {
    ///     lock: ShmMutex<u64>,
    ///     pixels: [u8; 64 << 20],
    /// }
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// # let name = format!("/shm-sync-doc-in-place-{}", std::process::id());
    /// # let name = name.as_str();
    /// let frame = SegmentOptions::new().create_in_place(name, |frame: &mut Frame| {
    ///     frame.lock = ShmMutex::new(1);
    ///     frame.pixels[7] = 255;
    /// })?;
    /// assert_eq!(frame.pixels[7], 255);
    /// # shm_sync::unlink(name)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create).
    ///
    /// # Panics
    ///
    /// If `init` panics, no object is created.
    pub fn create_in_place(
        &self,
        address: impl ToAddress,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error>
    where
        T: ShmSafe,
    {
        let valid = const { ValidAsZeros::<T>::check() };
        self.create_with(address, 0, in_place(valid, init))
    }

    /// Creates the object `address` with `len` elements, which are written in their
    /// final place: see [`create_in_place`](Self::create_in_place). [`SegmentContent`]
    /// has an example.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create).
    pub fn create_with_len(
        &self,
        address: impl ToAddress,
        len: usize,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error>
    where
        T: VariableLength,
    {
        let valid = const { ValidAsZeros::<T>::check() };
        self.create_with(address, len, in_place(valid, init))
    }

    /// Creates a System V segment without a key (`IPC_PRIVATE`). Other processes find
    /// it by its id, which [`Segment::address`] returns.
    ///
    /// ```
    /// use shm_sync::{Removal, Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// let jobs = Segment::<ShmMutex<u64>>::options()
    ///     .removal(Removal::UntilLastDetach)
    ///     .create_system_v_private(ShmMutex::new(0))?;
    /// let Some(address) = Segment::address(&jobs) else {
    ///     panic!("it has an address, such as \"sysv:id:7\"");
    /// };
    /// let same = Segment::<ShmMutex<u64>>::open(address)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create).
    pub fn create_system_v_private(&self, value: T) -> Result<Segment<T>, Error>
    where
        T: ShmSafe,
    {
        self.settings.permissions.check_trusted_group()?;
        let mut write = Some(by_value(value));
        let Some(created) = sysv::create(&self.settings, None, 0, &mut write)? else {
            return Err(Error::AlreadyExists { address: None });
        };
        let address = Address::system_v_id(created.attachment().id().0);
        Ok(Segment::new(created.into_any(), Some(address)))
    }

    /// Creates a segment without a name that contains `value`: see
    /// [`Segment::anonymous`]. `/proc/PID/maps` and the tool show it by its `label`.
    ///
    /// # Errors
    ///
    /// Those of [`Segment::anonymous`], and those of the options that are set.
    pub fn anonymous(&self, label: &str, value: T) -> Result<Segment<T>, Error>
    where
        T: ShmSafe,
    {
        self.anonymous_with(label, 0, by_value(value))
    }

    /// Creates a segment without a name whose value is written in its final place: see
    /// [`anonymous`](Self::anonymous) and [`create_in_place`](Self::create_in_place).
    ///
    /// # Errors
    ///
    /// Those of [`anonymous`](Self::anonymous).
    pub fn anonymous_in_place(
        &self,
        label: &str,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error>
    where
        T: ShmSafe,
    {
        let valid = const { ValidAsZeros::<T>::check() };
        self.anonymous_with(label, 0, in_place(valid, init))
    }

    /// Creates a segment without a name that has `len` elements: see
    /// [`anonymous`](Self::anonymous) and [`create_with_len`](Self::create_with_len).
    /// [`ShmMutex`](crate::ShmMutex#slices) has an example.
    ///
    /// # Errors
    ///
    /// Those of [`anonymous`](Self::anonymous).
    pub fn anonymous_with_len(
        &self,
        label: &str,
        len: usize,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error>
    where
        T: VariableLength,
    {
        let valid = const { ValidAsZeros::<T>::check() };
        self.anonymous_with(label, len, in_place(valid, init))
    }

    fn create_with(
        &self,
        address: impl ToAddress,
        len: usize,
        write: impl FnOnce(NonNull<T>, usize),
    ) -> Result<Segment<T>, Error>
    where
        T: SegmentContent,
    {
        let (created, address) = Address::resolve(address, |target| {
            self.settings.permissions.check_trusted_group()?;
            self.remove_abandoned(target)?;
            let created = PendingCreate::new(write).create(&self.settings, target, len)?;
            created.ok_or(Error::AlreadyExists { address: None })
        })?;
        Ok(Segment::new(created, Some(address)))
    }

    fn anonymous_with(
        &self,
        label: &str,
        len: usize,
        write: impl FnOnce(NonNull<T>, usize),
    ) -> Result<Segment<T>, Error>
    where
        T: SegmentContent,
    {
        let created = memfd::create(&self.settings, label, len, write)?;
        Ok(Segment::new(created.into_any(), None))
    }

    /// Removes the object if no process is attached to it and the options say so.
    fn remove_abandoned(&self, target: &Target) -> Result<(), Error> {
        if self.if_abandoned == IfAbandoned::Reuse {
            return Ok(());
        }
        match remove_if_abandoned(&self.settings.permissions, target) {
            // An object that is no segment stays. The creation that follows reports it.
            Ok(_) | Err(Error::NotFound { .. } | Error::NotASegment { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// # Opening
impl<T: ?Sized> SegmentOptions<T> {
    /// Opens the object `address`: see [`Segment::open`].
    ///
    /// # Errors
    ///
    /// Those of [`Segment::open`].
    pub fn open(&self, address: impl ToAddress) -> Result<Segment<T>, Error>
    where
        T: SegmentContent,
    {
        let (opened, address) = Address::resolve(address, |target| {
            self.open_target(target, Access::ReadWrite)
        })?;
        Ok(Segment::new(opened, Some(address)))
    }

    /// Opens the object `address` read-only: see [`Segment::open_read_only`].
    ///
    /// # Errors
    ///
    /// Those of [`Segment::open_read_only`].
    pub fn open_read_only(&self, address: impl ToAddress) -> Result<ReadOnlySegment<T>, Error>
    where
        T: SegmentContent,
    {
        let (opened, address) =
            Address::resolve(address, |target| self.open_target(target, Access::ReadOnly))?;
        Ok(ReadOnlySegment::new(opened, address))
    }

    /// Makes a private copy of the object `address`: see [`Snapshot`]. This process
    /// needs no right to write. Types that a torn copy could make invalid (enums with
    /// fields) do not compile: see [`TearFree`].
    ///
    /// ```
    /// use shm_sync::{Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// # let name = format!("/shm-sync-doc-snapshot-{}", std::process::id());
    /// # let name = name.as_str();
    /// let counter = Segment::create(name, ShmMutex::new(5_u64))?;
    /// let held = counter.lock()?;
    ///
    /// let copy = Segment::<ShmMutex<u64>>::options().open_snapshot(name)?;
    /// assert!(copy.is_poisoned(), "the lock was held: the data may be inconsistent");
    /// copy.clear_poison();
    /// *copy.lock()? += 1; // changes the copy only
    /// assert_eq!(*held, 5);
    /// # shm_sync::unlink(name)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`open_read_only`](Self::open_read_only), and:
    ///
    /// * [`Error::NoSpace`], [`Error::Os`]: there is no memory for the copy.
    /// * [`Error::Unidentified`]: this process can't own locks.
    pub fn open_snapshot(&self, address: impl ToAddress) -> Result<Snapshot<T>, Error>
    where
        T: SegmentContent + TearFree,
    {
        let original = self.open_read_only(address)?;
        Snapshot::of(&original, self.settings.memory).map_err(|error| error.at(original.address()))
    }

    /// Opens the object `address`, or creates it with the value of `init`: see
    /// [`Segment::open_or_create`].
    ///
    /// # Errors
    ///
    /// Those of [`Segment::open_or_create`].
    pub fn open_or_create(
        &self,
        address: impl ToAddress,
        init: impl FnOnce() -> T,
    ) -> Result<Segment<T>, Error>
    where
        T: ShmSafe,
    {
        self.open_or_create_with(address, 0, |to, len| by_value(init())(to, len))
    }

    /// Opens the object `address`, or creates it with a value that is written in its
    /// final place: see [`open_or_create`](Self::open_or_create) and
    /// [`create_in_place`](Self::create_in_place).
    ///
    /// # Errors
    ///
    /// Those of [`open_or_create`](Self::open_or_create).
    pub fn open_or_create_in_place(
        &self,
        address: impl ToAddress,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error>
    where
        T: ShmSafe,
    {
        let valid = const { ValidAsZeros::<T>::check() };
        self.open_or_create_with(address, 0, in_place(valid, init))
    }

    /// Opens the object `address`, or creates it with `len` elements: see
    /// [`open_or_create`](Self::open_or_create) and
    /// [`create_with_len`](Self::create_with_len). An existing object has the length
    /// that its creator chose.
    ///
    /// # Errors
    ///
    /// Those of [`open_or_create`](Self::open_or_create).
    pub fn open_or_create_with_len(
        &self,
        address: impl ToAddress,
        len: usize,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error>
    where
        T: VariableLength,
    {
        let valid = const { ValidAsZeros::<T>::check() };
        self.open_or_create_with(address, len, in_place(valid, init))
    }

    /// Opens the segment behind a descriptor that another process gave to this one: the
    /// descriptor of an anonymous segment, inherited or sent over a Unix socket. Does
    /// not check owner and mode, because the holder of the descriptor has the right to
    /// use it.
    ///
    /// ```
    /// use shm_sync::{Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let segment = Segment::anonymous(ShmMutex::new(0_u64))?;
    /// let Some(file) = Segment::as_fd(&segment) else {
    ///     panic!("an anonymous segment has a descriptor");
    /// };
    /// let file = file.try_clone_to_owned()?;
    /// let theirs = Segment::<ShmMutex<u64>>::options().from_fd(file)?;
    /// *theirs.lock().map_err(shm_sync::Error::from)? += 1;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unsealed`] if the descriptor is not that of an anonymous segment. All
    /// other errors are those of [`open`](Self::open).
    pub fn from_fd(&self, file: OwnedFd) -> Result<Segment<T>, Error>
    where
        T: SegmentContent,
    {
        let opened = memfd::open(self.settings.memory, file)?;
        Ok(Segment::new(opened.into_any(), None))
    }

    fn open_or_create_with(
        &self,
        address: impl ToAddress,
        len: usize,
        write: impl FnOnce(NonNull<T>, usize),
    ) -> Result<Segment<T>, Error>
    where
        T: SegmentContent,
    {
        let (mapped, address) = Address::resolve(address, |target| {
            self.settings.permissions.check_trusted_group()?;
            self.remove_abandoned(target)?;
            let mut pending = PendingCreate::new(write);
            // Another process creates or removes the object in each round, so at least
            // one process makes progress.
            loop {
                match self.open_target(target, Access::ReadWrite) {
                    Err(Error::NotFound { .. }) => {}
                    other => return other,
                }
                if let Some(created) = pending.create(&self.settings, target, len)? {
                    return Ok(created);
                }
            }
        })?;
        Ok(Segment::new(mapped, Some(address)))
    }

    fn open_target(&self, target: &Target, access: Access) -> Result<Mapped<T, Attachment>, Error>
    where
        T: SegmentContent,
    {
        let Settings {
            permissions,
            memory,
            ..
        } = &self.settings;
        permissions.check_trusted_group()?;
        Ok(match target {
            Target::File(path) => file::open(permissions, *memory, path, access)?.into_any(),
            Target::SystemVKey(_) | Target::SystemVId(_) => {
                sysv::open(permissions, *memory, target, access)?.into_any()
            }
        })
    }
}
