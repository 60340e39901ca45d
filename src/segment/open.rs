//! Creates and opens segments.
//!
//! This is the top of the segments: it calls the backings, and no file below calls it.

use std::os::fd::OwnedFd;
use std::ptr::NonNull;

use crate::error::Error;
use crate::os::mem::Access;
use crate::segment::address::{Address, Target};
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
    /// and [`SegmentOptions::create_with_len`] slices.
    ///
    /// ```
    /// use shm_sync::{Error, Segment, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// # let name = format!("/shm-sync-doc-create-{}", std::process::id());
    /// # let name = name.as_str();
    /// let jobs = Segment::create(name, ShmMutex::new(0_u64))?;
    /// let again = Segment::create(name, ShmMutex::new(0_u64));
    /// assert!(matches!(again, Err(Error::AlreadyExists)));
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
    pub fn create(address: &str, value: T) -> Result<Self, Error> {
        SegmentOptions::new().create(address, value)
    }

    /// Opens the object `address`, or creates it with the value of `init` if it does
    /// not exist. If several processes do this at once, one of them creates the object,
    /// and the other processes open it.
    ///
    /// Calls `init` only if the object does not exist at first. Drops its value if
    /// another process is faster.
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
    pub fn open_or_create(address: &str, init: impl FnOnce() -> T) -> Result<Self, Error> {
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
    /// assert!(matches!(missing, Err(Error::NotFound)));
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
    pub fn open(address: &str) -> Result<Self, Error> {
        SegmentOptions::new().open(address)
    }

    /// Opens the object `address` read-only. Its memory is mapped for reading, and
    /// locking does not compile: see [`ReadOnly`](crate::ReadOnly). This process needs
    /// no right to write.
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
    /// Those of [`open`](Self::open), except `ForeignPidNamespace`, `InUse` and
    /// `Unidentified`. A reader locks no mutex, so it needs no process ids in common
    /// with the other processes.
    pub fn open_read_only(address: &str) -> Result<ReadOnlySegment<T>, Error> {
        SegmentOptions::new().open_read_only(address)
    }

    /// Returns the default options. Their methods choose owner, group, mode, removal,
    /// pages, residency and core dumps.
    #[must_use]
    pub fn options() -> SegmentOptions {
        SegmentOptions::new()
    }
}

/// # Creating
impl SegmentOptions {
    /// Creates the object `address` that contains `value`: see [`Segment::create`].
    ///
    /// # Errors
    ///
    /// Those of [`Segment::create`], and those of the options that are set.
    pub fn create<T: ShmSafe>(&self, address: &str, value: T) -> Result<Segment<T>, Error> {
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
    pub fn create_in_place<T: ShmSafe>(
        &self,
        address: &str,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error> {
        let valid = const { ValidAsZeros::<T>::check() };
        self.create_with(address, 0, in_place(valid, init))
    }

    /// Creates the object `address` with `len` elements, which are written in their
    /// final place: see [`create_in_place`](Self::create_in_place) and
    /// [`SegmentContent`].
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create).
    pub fn create_with_len<T: VariableLength + ?Sized>(
        &self,
        address: &str,
        len: usize,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error> {
        let valid = const { ValidAsZeros::<T>::check() };
        self.create_with(address, len, in_place(valid, init))
    }

    /// Creates a System V segment without a key (`IPC_PRIVATE`). Other processes find
    /// it by its id, which [`Segment::address`] returns.
    ///
    /// # Errors
    ///
    /// Those of [`create`](Self::create).
    pub fn create_system_v_private<T: ShmSafe>(&self, value: T) -> Result<Segment<T>, Error> {
        self.settings.permissions.check_trusted_group()?;
        let mut write = Some(by_value(value));
        let Some(created) = sysv::create(&self.settings, None, 0, &mut write)? else {
            return Err(Error::AlreadyExists);
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
    pub fn anonymous<T: ShmSafe>(&self, label: &str, value: T) -> Result<Segment<T>, Error> {
        self.anonymous_with(label, 0, by_value(value))
    }

    /// Creates a segment without a name whose value is written in its final place: see
    /// [`anonymous`](Self::anonymous) and [`create_in_place`](Self::create_in_place).
    ///
    /// # Errors
    ///
    /// Those of [`anonymous`](Self::anonymous).
    pub fn anonymous_in_place<T: ShmSafe>(
        &self,
        label: &str,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error> {
        let valid = const { ValidAsZeros::<T>::check() };
        self.anonymous_with(label, 0, in_place(valid, init))
    }

    /// Creates a segment without a name that has `len` elements: see
    /// [`anonymous`](Self::anonymous) and [`create_with_len`](Self::create_with_len).
    ///
    /// # Errors
    ///
    /// Those of [`anonymous`](Self::anonymous).
    pub fn anonymous_with_len<T: VariableLength + ?Sized>(
        &self,
        label: &str,
        len: usize,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error> {
        let valid = const { ValidAsZeros::<T>::check() };
        self.anonymous_with(label, len, in_place(valid, init))
    }

    fn create_with<T: SegmentContent + ?Sized>(
        &self,
        address: &str,
        len: usize,
        write: impl FnOnce(NonNull<T>, usize),
    ) -> Result<Segment<T>, Error> {
        let address: Address = address.parse()?;
        let target = address.target()?;
        self.settings.permissions.check_trusted_group()?;
        self.remove_abandoned(&target)?;
        match PendingCreate::new(write).create(&self.settings, &target, len)? {
            Some(created) => Ok(Segment::new(created, Some(address))),
            None => Err(Error::AlreadyExists),
        }
    }

    fn anonymous_with<T: SegmentContent + ?Sized>(
        &self,
        label: &str,
        len: usize,
        write: impl FnOnce(NonNull<T>, usize),
    ) -> Result<Segment<T>, Error> {
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
            Ok(_) | Err(Error::NotFound | Error::NotASegment) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// # Opening
impl SegmentOptions {
    /// Opens the object `address`: see [`Segment::open`].
    ///
    /// # Errors
    ///
    /// Those of [`Segment::open`].
    pub fn open<T: SegmentContent + ?Sized>(&self, address: &str) -> Result<Segment<T>, Error> {
        let address: Address = address.parse()?;
        let opened = self.open_target(&address.target()?, Access::ReadWrite)?;
        Ok(Segment::new(opened, Some(address)))
    }

    /// Opens the object `address` read-only: see [`Segment::open_read_only`].
    ///
    /// # Errors
    ///
    /// Those of [`Segment::open_read_only`].
    pub fn open_read_only<T: SegmentContent + ?Sized>(
        &self,
        address: &str,
    ) -> Result<ReadOnlySegment<T>, Error> {
        let address: Address = address.parse()?;
        let opened = self.open_target(&address.target()?, Access::ReadOnly)?;
        Ok(ReadOnlySegment::new(opened, address))
    }

    /// Makes a private copy of the object `address`: see [`Snapshot`]. This process
    /// needs no right to write. Types that a torn copy could make invalid (enums with
    /// fields) do not compile: see [`TearFree`].
    ///
    /// ```
    /// use shm_sync::{Segment, SegmentOptions, ShmMutex};
    ///
    /// # fn main() -> Result<(), shm_sync::Error> {
    /// # let name = format!("/shm-sync-doc-snapshot-{}", std::process::id());
    /// # let name = name.as_str();
    /// let counter = Segment::create(name, ShmMutex::new(5_u64))?;
    /// let held = counter.lock()?;
    ///
    /// let copy = SegmentOptions::new().open_snapshot::<ShmMutex<u64>>(name)?;
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
    pub fn open_snapshot<T: SegmentContent + TearFree + ?Sized>(
        &self,
        address: &str,
    ) -> Result<Snapshot<T>, Error> {
        Snapshot::of(&self.open_read_only(address)?, self.settings.memory)
    }

    /// Opens the object `address`, or creates it with the value of `init`: see
    /// [`Segment::open_or_create`].
    ///
    /// # Errors
    ///
    /// Those of [`Segment::open_or_create`].
    pub fn open_or_create<T: ShmSafe>(
        &self,
        address: &str,
        init: impl FnOnce() -> T,
    ) -> Result<Segment<T>, Error> {
        self.open_or_create_with(address, 0, |to, len| by_value(init())(to, len))
    }

    /// Opens the object `address`, or creates it with a value that is written in its
    /// final place: see [`open_or_create`](Self::open_or_create) and
    /// [`create_in_place`](Self::create_in_place).
    ///
    /// # Errors
    ///
    /// Those of [`open_or_create`](Self::open_or_create).
    pub fn open_or_create_in_place<T: ShmSafe>(
        &self,
        address: &str,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error> {
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
    pub fn open_or_create_with_len<T: VariableLength + ?Sized>(
        &self,
        address: &str,
        len: usize,
        init: impl FnOnce(&mut T),
    ) -> Result<Segment<T>, Error> {
        let valid = const { ValidAsZeros::<T>::check() };
        self.open_or_create_with(address, len, in_place(valid, init))
    }

    /// Opens the segment behind a descriptor that another process gave to this one: the
    /// descriptor of an anonymous segment, inherited or sent over a Unix socket. Does
    /// not check owner and mode, because the holder of the descriptor has the right to
    /// use it.
    ///
    /// ```
    /// use shm_sync::{Segment, SegmentOptions, ShmMutex};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let segment = Segment::anonymous(ShmMutex::new(0_u64))?;
    /// let Some(file) = Segment::as_fd(&segment) else {
    ///     panic!("an anonymous segment has a descriptor");
    /// };
    /// let file = file.try_clone_to_owned()?;
    /// let theirs = SegmentOptions::new().from_fd::<ShmMutex<u64>>(file)?;
    /// *theirs.lock()? += 1;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unsealed`] if the descriptor is not that of an anonymous segment. All
    /// other errors are those of [`open`](Self::open).
    pub fn from_fd<T: SegmentContent + ?Sized>(&self, file: OwnedFd) -> Result<Segment<T>, Error> {
        let opened = memfd::open(self.settings.memory, file)?;
        Ok(Segment::new(opened.into_any(), None))
    }

    fn open_or_create_with<T: SegmentContent + ?Sized>(
        &self,
        address: &str,
        len: usize,
        write: impl FnOnce(NonNull<T>, usize),
    ) -> Result<Segment<T>, Error> {
        let address: Address = address.parse()?;
        let target = address.target()?;
        self.settings.permissions.check_trusted_group()?;
        self.remove_abandoned(&target)?;
        let mut pending = PendingCreate::new(write);
        // Another process creates or removes the object in each round, so at least one
        // process makes progress.
        let mapped = loop {
            match self.open_target(&target, Access::ReadWrite) {
                Err(Error::NotFound) => {}
                other => break other?,
            }
            if let Some(created) = pending.create(&self.settings, &target, len)? {
                break created;
            }
        };
        Ok(Segment::new(mapped, Some(address)))
    }

    fn open_target<T: SegmentContent + ?Sized>(
        &self,
        target: &Target,
        access: Access,
    ) -> Result<Mapped<T, Attachment>, Error> {
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
