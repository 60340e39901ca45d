//! POSIX objects and files.
//!
//! A new object is built without a name and linked when it is complete. Where that is
//! not supported, it has a [temporary name](super::temporary) until then. An existing
//! object is checked before it is mapped.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::NonNull;

use crate::error::{Error, Unsupported};
use crate::init;
use crate::os::descriptor::CheckedFd;
use crate::os::mem::{Access, Mapping, Pages};
use crate::os::regular_file::{self, FileStat, SHM_DIRECTORY};
use crate::segment::backing::attachment::{self, Owner, Registration, ReinitLock, RemoveOutcome};
use crate::segment::backing::mapped::Mapped;
use crate::segment::backing::temporary::{self, CreateError, TemporaryName};
use crate::segment::failure;
use crate::segment::format::epoch::{Epoch, Validity};
use crate::segment::format::header::{self, Header};
use crate::segment::format::type_diff;
use crate::segment::format::writer::{self, SegmentLayout};
use crate::segment::memory_policy::MemoryPolicy;
use crate::segment::permissions::{OwnerCheck, Permissions};
use crate::segment::policy::Removal;
use crate::segment::settings::Settings;
use crate::shm_safe::{SegmentContent, Visitor};

/// The call that takes a lock on a file, for errors.
const SETLK: &str = "fcntl(F_OFD_SETLK)";

/// The attachment of this process to a POSIX object or a file.
#[derive(Debug)]
pub(in crate::segment) struct FileAttachment {
    /// `None` after [`detach`](Self::detach).
    mapping: Option<Mapping>,
    registration: Registration,
}

impl FileAttachment {
    fn new(mapping: Mapping, registration: Registration) -> Self {
        let mapping = Some(mapping);
        Self {
            mapping,
            registration,
        }
    }

    pub(in crate::segment) fn mapping(&self) -> &Mapping {
        let mapping = self.mapping.as_ref();
        mapping.unwrap_or_else(|| unreachable!("only `detach` takes it, which ends the value"))
    }

    /// Detaches. `drop` does the same, and ignores errors.
    pub(in crate::segment) fn close(mut self) -> Result<(), Error> {
        self.detach()
    }

    /// Unmaps the memory, then ends the registration: a process uses the memory only
    /// while it is registered. Does nothing when called again.
    fn detach(&mut self) -> Result<(), Error> {
        let Some(mapping) = self.mapping.take() else {
            return Ok(());
        };
        // The object is still mapped, so its inode number cannot pass to another file.
        let remover = self.registration.open_remover();
        let unmapped = mapping.unmap().map_err(failure::call_error("munmap"));
        let left = self.registration.leave(remover);
        unmapped.and(left.map_err(failure::removal_error("unlink")))
    }

    /// Returns the descriptor, or `None` if the program has closed it.
    pub(in crate::segment) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.registration.file().ok()
    }

    /// Returns the device and the inode number of the object.
    pub(in crate::segment) fn identity(&self) -> (u64, u64) {
        self.registration.identity()
    }

    /// Returns whether the name leads to the object at this moment.
    pub(in crate::segment) fn is_linked(&self) -> Result<bool, Error> {
        self.registration
            .has_its_name()
            .map_err(failure::os_error("lstat"))
    }

    /// Returns the registered processes: see [`Registration::attached_pids`].
    pub(in crate::segment) fn attached_pids(&self, doubtful: &[u32]) -> Result<Vec<u32>, Error> {
        self.registration
            .attached_pids(doubtful)
            .map_err(failure::lock_error("fcntl(F_OFD_GETLK)"))
    }
}

impl Drop for FileAttachment {
    fn drop(&mut self) {
        // A process that can't remove the name leaves it to other processes, and to
        // `gc`.
        let _ = self.detach();
    }
}

/// A complete segment without a name, or with a temporary one. If it is dropped, or if
/// the process dies, the kernel frees it. (A process that dies leaves a temporary name
/// to later creators.)
#[derive(Debug)]
pub(in crate::segment) struct Unpublished<T: ?Sized> {
    value: NonNull<T>,
    mapping: Mapping,
    file: CheckedFd,
    name: Option<Box<TemporaryName>>,
}

impl<T: SegmentContent + ?Sized> Unpublished<T> {
    /// Reserves memory in the file system of `path`, and writes the segment into it.
    pub(in crate::segment) fn build(
        settings: &Settings,
        path: &Path,
        len: usize,
        write: impl FnOnce(NonNull<T>, usize),
    ) -> Result<Self, Error> {
        if settings.pages == Pages::Huge {
            return Err(Unsupported::HugePages.into());
        }
        let mut layout = SegmentLayout::of::<T>(len, NonZeroUsize::MIN, settings.removal)?;
        let total = layout.total_len();
        let memory_error = |call| failure::memory_error(total.get(), call);
        temporary::refuse(path)?;
        let permissions = settings.permissions;
        let (file, name) = create_file(directory_of(path), total.get())?;
        // If this fails, the segment works until the file system is full.
        let _ = regular_file::disable_copy_on_write(&file);
        regular_file::reserve(&file, total).map_err(memory_error("fallocate"))?;
        let stat = regular_file::fstat(&file).map_err(failure::call_error("fstat"))?;
        layout.set_epoch(Epoch::of(&file, stat.identity)?);

        let mapping = Mapping::of_file(&file, total).map_err(memory_error("mmap"))?;
        // The memory policy may take long, and the caller's closure runs next.
        // Meanwhile the program may close all descriptors.
        let file = CheckedFd::new(file, stat.identity)
            .map_err(failure::os_error("fcntl(F_DUPFD_CLOEXEC)"))?;
        settings.memory.apply(&mapping)?;
        // SAFETY:
        // * Writable and `total_len` bytes long: the mapping is new, of that length.
        // * No other writer: the file has no name, so no other process can open it. Or
        //   it has a temporary name, by which no opener of this crate opens it, and
        //   which only this user may open.
        unsafe { layout.write_header(&mapping) };
        // SAFETY:
        // * Writable, long enough, and no other user: as for `write_header`.
        // * Zero behind the header: all bytes of a new file are zero.
        // * The memory stays: `Segment` keeps the mapping while the value is borrowed
        //   or a lock in it is held.
        // * `write` comes from `by_value` or `in_place`.
        let value = unsafe { layout.fill(&mapping, write) }?;
        // Only now, because the file may have a temporary name.
        let open = file.get().map_err(failure::os_error("fstat"))?;
        regular_file::fchown(open, permissions.owner, permissions.group)
            .map_err(failure::call_error("fchown"))?;
        regular_file::fchmod(open, permissions.mode).map_err(failure::call_error("fchmod"))?;
        if !path.starts_with(SHM_DIRECTORY) {
            // After a power failure, a name never leads to a file without its content.
            regular_file::sync(open).map_err(failure::call_error("fsync"))?;
        }
        Ok(Self {
            value,
            mapping,
            file,
            name,
        })
    }

    /// Links the object to its name. If the name is taken, returns the object with the
    /// error.
    pub(in crate::segment) fn publish(
        self,
        removal: Removal,
        path: &Path,
    ) -> Result<Mapped<T, FileAttachment>, (Self, Error)> {
        let Self {
            value,
            mapping,
            file,
            name,
        } = self;
        // Registered before it has a name, so that no process finds it abandoned.
        let registered = file
            .get()
            .and_then(|open| attachment::register_creator(open).map(|()| open));
        let named = match registered {
            Ok(open) => give_name(open, name, path),
            Err(source) => Err((name, failure::lock_error(SETLK)(source))),
        };
        let (name, failed) = match named {
            Ok(()) => {
                let registration = Registration::of_registered(file, path.to_owned(), removal);
                let attachment = FileAttachment::new(mapping, registration);
                // SAFETY:
                // * Initialised: `build` wrote the value and initialised its locks.
                // * It stays mapped: `attachment` owns the mapping of the value.
                return Ok(unsafe { Mapped::new(value, attachment) });
            }
            Err(failed) => failed,
        };
        let again = Self {
            value,
            mapping,
            file,
            name,
        };
        Err((again, failed))
    }
}

/// Creates an empty file: without a name, or with a temporary one.
fn create_file(
    directory: &Path,
    bytes: usize,
) -> Result<(OwnedFd, Option<Box<TemporaryName>>), Error> {
    // A POSIX object has no directory in its address, so the error names it.
    let [unnamed_call, named_call] = match directory == Path::new(SHM_DIRECTORY) {
        true => ["open(O_TMPFILE) in /dev/shm", "open(O_EXCL) in /dev/shm"],
        false => ["open(O_TMPFILE)", "open(O_EXCL)"],
    };
    let unnamed = match regular_file::open_tmpfile(directory) {
        Ok(file) => return Ok((file, None)),
        Err(error) if regular_file::has_no_tmpfile(&error) => error,
        Err(error) => return Err(failure::memory_error(bytes, unnamed_call)(error)),
    };
    match TemporaryName::create(directory) {
        Ok((file, name)) => Ok((file, Some(Box::new(name)))),
        // The directory is missing, for example.
        Err(CreateError::Open(named)) if named.raw_os_error() == unnamed.raw_os_error() => {
            Err(failure::memory_error(bytes, unnamed_call)(unnamed))
        }
        Err(CreateError::Open(named)) => Err(failure::memory_error(bytes, named_call)(named)),
        Err(CreateError::Other(error)) => Err(error),
    }
}

/// Gives a complete object its name. After an error, the object has its temporary name,
/// if it had one.
fn give_name(
    file: BorrowedFd<'_>,
    name: Option<Box<TemporaryName>>,
    path: &Path,
) -> Result<(), (Option<Box<TemporaryName>>, Error)> {
    let Some(name) = name else {
        let linked = regular_file::link_at(file, path);
        let call = match &linked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => "linkat from /proc/self/fd",
            _ => "linkat",
        };
        return linked.map_err(|source| (None, failure::publication_error(call)(source)));
    };
    name.rename_to(path).map_err(|(name, source)| {
        let error = match regular_file::is_unsupported(&source) {
            // Neither a renaming nor a link.
            true => Unsupported::UnnamedFiles.into(),
            false => failure::publication_error("renameat2")(source),
        };
        (Some(Box::new(name)), error)
    })
}

/// Opens the object that `path` leads to, after checking it.
pub(in crate::segment) fn open<T: SegmentContent + ?Sized>(
    permissions: &Permissions,
    memory: MemoryPolicy,
    path: &Path,
    access: Access,
) -> Result<Mapped<T, FileAttachment>, Error> {
    temporary::refuse(path)?;
    loop {
        let (file, stat) = open_checked(permissions, path, access)?;
        let header = read_header(&file, stat.len)?;
        let len = check_layout::<T>(&file, &header)?;
        // Read-only openers take no locks, so stale locks do not matter.
        let here = match access {
            Access::ReadWrite => Some(Validity::of(&file, stat.identity)?),
            Access::ReadOnly => None,
        };
        let reinit_lock = match here {
            Some(here) if !header.validity().matches(here) => {
                Some(ReinitLock::new(&file).map_err(failure::lock_error(SETLK))?)
            }
            _ => None,
        };
        // Mapped before this process registers, so that it never counts as a user if it
        // can't map the object. It reads the mapping only after it has registered: see
        // "Reinitialising stale locks" in `attachment`.
        let mapping = map(&file, &header, access)?;
        let is_in_use = header.removal == Removal::UntilLastDetach && attachment::is_in_use(&file);
        let mut registration = Registration::new(file, stat.identity, path.to_owned(), access)
            .map_err(failure::lock_error(SETLK))?;
        if is_in_use {
            // Set before the checks below, because an opener that fails must detach as
            // a user, too: see `is_in_use`.
            registration.set_removal(header.removal);
        }
        let mut attachment = FileAttachment::new(mapping, registration);
        if let (Some(reinit_lock), Some(here)) = (reinit_lock, here) {
            reinit_stale_locks::<T>(&reinit_lock, &attachment, &header, here, len)?;
        }
        if here.is_some_and(|here| !Validity::load(attachment.mapping()).matches(here)) {
            continue; // another process has reinitialised the locks meanwhile
        }
        // Another process may have removed the name or reused it meanwhile. The caller
        // wants the object that has the name now.
        if attachment.is_linked()? {
            memory.apply(attachment.mapping())?;
            attachment.registration.set_removal(header.removal);
            // SAFETY: the header is of this object, and all of it is mapped.
            let base = unsafe { writer::value_in(attachment.mapping(), &header) };
            // SAFETY:
            // * Initialised: the header says that the object holds a complete `T`.
            // * It stays mapped: `attachment` owns the mapping of the value.
            return Ok(unsafe { Mapped::new(T::at(base, len), attachment) });
        }
    }
}

/// Maps the whole object.
fn map(file: &OwnedFd, header: &Header, access: Access) -> Result<Mapping, Error> {
    let len = usize::try_from(header.total_len).ok();
    let len = len
        .and_then(NonZeroUsize::new)
        .ok_or(Error::NotASegment { address: None })?;
    Mapping::of_file_with(file, len, access).map_err(failure::memory_error(len.get(), "mmap"))
}

/// Reinitialises the locks of an object if they are stale.
///
/// An object can outlive the container in which its locks were initialised. A file can
/// outlive the boot as well, and it can be copied. Its lock words then name threads
/// that no longer exist, or threads that hold the locks of the original. Locks that
/// were held are poisoned. [`attachment`] proves that no process uses a lock meanwhile.
///
/// # Errors
///
/// [`Error::ForeignPidNamespace`], [`Error::InUse`]: the locks are valid for another
/// attached process.
fn reinit_stale_locks<T: SegmentContent + ?Sized>(
    reinit_lock: &ReinitLock,
    attachment: &FileAttachment,
    header: &Header,
    here: Validity,
    len: usize,
) -> Result<(), Error> {
    let mapping = attachment.mapping();
    // Another process may have done it already.
    let found = Validity::load(mapping);
    if found.matches(here) {
        return Ok(());
    }
    let is_exclusive = reinit_lock.exclude_others();
    if !is_exclusive.map_err(failure::lock_error(SETLK))? {
        reinit_lock.leave().map_err(failure::lock_error(SETLK))?;
        return Err(if found.epoch.matches(here.epoch) {
            Error::ForeignPidNamespace { address: None }
        } else {
            Error::InUse { address: None }
        });
    }
    let reinitialized = own_all_blocks(attachment).and_then(|()| {
        let context = init::init_context()?;
        // SAFETY: the header is of this object, and all of it is mapped.
        let base = unsafe { writer::value_in(mapping, header) };
        let value: NonNull<T> = T::at(base, len);
        let locks = |visitor: &mut Visitor<'_>| T::for_each_sync_object(value, visitor);
        // First: the next opener detects a crash from here on.
        Validity::invalidate(mapping);
        // SAFETY:
        // * `locks` visits the locks of the `T` at `base`, which the header describes.
        //   The mapping is writable, because a reader does not reinitialise.
        // * No other process uses them: `exclude_others` keeps out each process that
        //   locks.
        // * The mapping stays: `Segment` keeps it while a lock in the value is held.
        unsafe { init::reinit_all(base, context, locks) }
    });
    if let Err(error) = reinitialized {
        // Unlocks explicitly. A concurrently forked child may share the descriptor, and
        // would keep all other processes waiting.
        let _ = reinit_lock.leave();
        return Err(error);
    }
    // Last: after a crash before this line, the next opener starts over.
    here.publish(mapping);
    reinit_lock
        .admit_others()
        .map_err(failure::lock_error(SETLK))
}

/// Reserves all memory of a file whose locks are reinitialised. The file may be a copy
/// with holes, or may share its blocks with another file.
fn own_all_blocks(attachment: &FileAttachment) -> Result<(), Error> {
    let len = attachment.mapping().len();
    let (Some(file), Some(bytes)) = (attachment.file(), NonZeroUsize::new(len)) else {
        return Ok(());
    };
    match regular_file::unshare(file, bytes).map_err(failure::memory_error(len, "fallocate")) {
        Err(error @ Error::NoSpace { .. }) => Err(error),
        // If the file system does not support it, a full file system ends in SIGBUS.
        _ => Ok(()),
    }
}

/// Removes the name `path` if it leads to a segment that no process is attached to. The
/// segment may hold any type, and may be damaged.
pub(in crate::segment) fn remove_if_abandoned(
    permissions: &Permissions,
    path: &Path,
) -> Result<RemoveOutcome, Error> {
    let (file, stat) = open_checked(permissions, path, Access::ReadWrite)?;
    match read_header(&file, stat.len) {
        // A segment of this crate, also if it is damaged or of another version.
        Ok(_) | Err(Error::Corrupt { .. } | Error::UnsupportedFormat { .. }) => {}
        // A creator has died before it wrote the header.
        Err(Error::NotASegment { .. }) if temporary::is_temporary(path) => {}
        Err(other) => return Err(other),
    }
    let owner = match permissions.owner_check {
        OwnerCheck::Owner | OwnerCheck::Group => Owner::Trusted,
        OwnerCheck::Skip => Owner::Untrusted,
    };
    attachment::remove_if_abandoned(file, path, owner).map_err(failure::removal_error("unlink"))
}

/// Removes the name `path` from any object, whether processes are attached or not.
pub(in crate::segment) fn unlink(path: &Path) -> Result<(), Error> {
    attachment::unlink(path).map_err(failure::removal_error("unlink"))
}

/// Opens the object that `path` leads to, and checks everything that is known before
/// the first byte is read.
fn open_checked(
    permissions: &Permissions,
    path: &Path,
    access: Access,
) -> Result<(OwnedFd, FileStat), Error> {
    let file = regular_file::open(path, access)
        .map_err(failure::os_error("open"))?
        .ok_or(Error::NotASegment { address: None })?;
    let stat = regular_file::fstat(&file).map_err(failure::os_error("fstat"))?;
    if !stat.is_regular {
        return Err(Error::NotASegment { address: None });
    }
    permissions.check(stat.owner, stat.group, stat.mode)?;
    Ok((file, stat))
}

/// Reads the header with `pread`, and not through a mapping: if the file shrinks
/// meanwhile, the result is an error instead of a `SIGBUS`.
pub(in crate::segment) fn read_header(file: impl AsFd, object_len: u64) -> Result<Header, Error> {
    let mut bytes = [0; header::LEN];
    let filled = regular_file::read_at(file, &mut bytes, 0).map_err(failure::os_error("pread"))?;
    if filled < bytes.len() {
        return Err(Error::NotASegment { address: None });
    }
    Header::parse(&bytes, object_len)
}

/// Checks that a file with this header contains a `T`: see [`Header::check_layout`].
pub(in crate::segment) fn check_layout<T: SegmentContent + ?Sized>(
    file: impl AsFd,
    header: &Header,
) -> Result<usize, Error> {
    header.check_layout::<T>().map_err(|error| {
        type_diff::explain(error, header, T::DESCRIPTION, &mut |buffer, offset| {
            let filled = regular_file::read_at(&file, buffer, offset);
            filled.is_ok_and(|filled| filled == buffer.len())
        })
    })
}

/// Returns the directory that `path` is in.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// Opens the directory of a new file, which is synced after the name is linked. Returns
/// `None` for POSIX objects, which no power failure survives, and if the directory
/// can't be opened.
pub(in crate::segment) fn durable_directory(path: &Path) -> Option<File> {
    if path.starts_with(SHM_DIRECTORY) {
        return None;
    }
    File::open(directory_of(path)).ok()
}
