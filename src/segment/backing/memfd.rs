//! Anonymous segments: sealed memfds, shared by fork or by sending the descriptor.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use crate::error::Error;
use crate::init;
use crate::os::descriptor::CheckedFd;
use crate::os::mem::{Access, Mapping, Pages, huge_page_size};
use crate::os::{is_not_permitted, mem::memfd, regular_file};
use crate::segment::backing::file;
use crate::segment::backing::mapped::Mapped;
use crate::segment::failure;
use crate::segment::format::writer::{self, SegmentLayout};
use crate::segment::memory_policy::MemoryPolicy;
use crate::segment::policy::Removal;
use crate::segment::settings::Settings;
use crate::shm_safe::SegmentContent;

/// The first part of the label of each memfd of this crate.
pub(crate) const LABEL: &str = "shm-sync:";

/// The mode of a memfd. It matters if another process opens `/proc/PID/fd`.
const OWNER_ONLY: u32 = 0o600;

/// The attachment of this process to an anonymous segment.
#[derive(Debug)]
pub(in crate::segment) struct MemfdAttachment {
    mapping: Mapping,
    file: CheckedFd,
}

impl MemfdAttachment {
    pub(in crate::segment) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Returns the descriptor, or `None` if the program has closed it.
    pub(in crate::segment) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.file.get().ok()
    }

    /// Unmaps the memory, and closes the descriptor.
    pub(in crate::segment) fn close(self) -> Result<(), Error> {
        self.mapping.unmap().map_err(failure::call_error("munmap"))
    }

    /// Returns the device and the inode number of the memfd.
    pub(in crate::segment) fn identity(&self) -> (u64, u64) {
        self.file.identity()
    }
}

/// Creates an anonymous segment.
pub(in crate::segment) fn create<T: SegmentContent + ?Sized>(
    settings: &Settings,
    label: &str,
    len: usize,
    write: impl FnOnce(NonNull<T>, usize),
) -> Result<Mapped<T, MemfdAttachment>, Error> {
    let granularity = match settings.pages {
        Pages::Normal => NonZeroUsize::MIN,
        Pages::Huge => huge_page_size().map_err(failure::call_error("reading /proc/meminfo"))?,
    };
    let layout = SegmentLayout::of::<T>(len, granularity, Removal::Persistent)?;
    let total = layout.total_len();
    let memory_error = |call| {
        move |source| match settings.pages {
            Pages::Normal => failure::memory_error(total.get(), call)(source),
            Pages::Huge => failure::huge_page_error(total.get(), call)(source),
        }
    };
    let file = memfd::create(&format!("{LABEL}{label}"), settings.pages)
        .map_err(memory_error("memfd_create"))?;
    regular_file::fchmod(&file, OWNER_ONLY).map_err(failure::call_error("fchmod"))?;
    // Memory is not reserved page by page, as in a file system with a limit: a memfd
    // has no limit, so that would go on until the machine has no memory left. A private
    // mapping asks the kernel whether it would commit so much. The kernel reserves huge
    // pages when they are mapped.
    if settings.pages == Pages::Normal {
        drop(Mapping::private(total).map_err(memory_error("mmap"))?);
    }
    regular_file::set_len(&file, total).map_err(memory_error("ftruncate"))?;
    memfd::seal(&file).map_err(failure::call_error("fcntl(F_ADD_SEALS)"))?;
    let mapping = Mapping::of_file(&file, total).map_err(memory_error("mmap"))?;
    let stat = regular_file::fstat(&file).map_err(failure::call_error("fstat"))?;
    // The memory policy may take long, and the caller's closure runs next. Meanwhile
    // the program may close all descriptors.
    let file = keep(file, stat.identity)?;
    settings.memory.apply(&mapping)?;
    // SAFETY:
    // * Writable and `total_len` bytes long: the mapping is new, of that length.
    // * No other writer: only this function knows the descriptor.
    unsafe { layout.write_header(&mapping) };
    // SAFETY:
    // * Writable, long enough, and no other user: as for `write_header`.
    // * Zero behind the header: all bytes of a new memfd are zero.
    // * The memory stays: `Segment` keeps the mapping while the value is borrowed or a
    //   lock in it is held.
    // * `write` comes from `by_value` or `in_place`.
    let value = unsafe { layout.fill(&mapping, write) }?;
    // SAFETY:
    // * Initialised: `fill` wrote the value and initialised its locks.
    // * It stays mapped: the attachment owns the mapping of the value.
    Ok(unsafe { Mapped::new(value, MemfdAttachment { mapping, file }) })
}

/// Opens the segment behind a descriptor.
pub(in crate::segment) fn open<T: SegmentContent + ?Sized>(
    memory: MemoryPolicy,
    file: OwnedFd,
) -> Result<Mapped<T, MemfdAttachment>, Error> {
    if !is_sealed(&file)? {
        return Err(Error::Unsealed);
    }
    let stat = regular_file::fstat(&file).map_err(failure::call_error("fstat"))?;
    let header = file::read_header(&file, stat.len)?;
    let elements = file::check_layout::<T>(&file, &header)?;
    if header.pid_namespace != init::init_context()?.pid_namespace {
        return Err(Error::ForeignPidNamespace { address: None });
    }
    let total = usize::try_from(stat.len).ok().and_then(NonZeroUsize::new);
    let total = total.ok_or(Error::NotASegment { address: None })?;
    let mapping = Mapping::of_file_with(&file, total, Access::ReadWrite).map_err(|source| {
        if is_not_permitted(&source) {
            Error::PermissionDenied { address: None } // sealed against writing
        } else {
            failure::memory_error(total.get(), "mmap")(source)
        }
    })?;
    // The memory policy may take long. Meanwhile the program may close all descriptors.
    let file = keep(file, stat.identity)?;
    memory.apply(&mapping)?;
    // SAFETY: the header is of this object, and all of it is mapped.
    let base = unsafe { writer::value_in(&mapping, &header) };
    let value = T::at(base, elements);
    // SAFETY:
    // * Initialised: the header says that the object holds a complete `T`.
    // * It stays mapped: the attachment owns the mapping of the value.
    Ok(unsafe { Mapped::new(value, MemfdAttachment { mapping, file }) })
}

/// Keeps a descriptor under a number of at least 3. Its file has this device and inode
/// number.
fn keep(file: OwnedFd, identity: (u64, u64)) -> Result<CheckedFd, Error> {
    CheckedFd::new(file, identity).map_err(failure::call_error("fcntl(F_DUPFD_CLOEXEC)"))
}

fn is_sealed(file: impl AsFd) -> Result<bool, Error> {
    memfd::is_sealed_against_shrinking(file).map_err(failure::call_error("fcntl(F_GET_SEALS)"))
}
