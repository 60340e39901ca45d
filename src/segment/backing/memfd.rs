//! Segments without a name: sealed memfds, shared by fork, or by handing over
//! the descriptor.

use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;

use crate::error::Error;
use crate::init;
use crate::os::descriptor::CheckedFd;
use crate::os::mem::{Access, Mapping, Pages, huge_page_size};
use crate::os::{is_not_permitted, mem::memfd, regular_file};
use crate::segment::backing::Hold;
use crate::segment::backing::file;
use crate::segment::content::SegmentContent;
use crate::segment::failure;
use crate::segment::format::writer::{self, SegmentLayout};
use crate::segment::options::SegmentOptions;
use crate::segment::policy::Removal;

/// How a memfd of this crate begins its label.
pub(crate) const LABEL: &str = "shm-sync:";

/// The mode of a memfd, which matters where others open it by `/proc/PID/fd`.
const OWNER_ONLY: u32 = 0o600;

/// Creates a segment without a name.
pub(in crate::segment) fn create<T: SegmentContent + ?Sized>(
    options: &SegmentOptions,
    label: &str,
    len: usize,
    write: impl FnOnce(NonNull<T>, usize),
) -> Result<(NonNull<T>, Hold), Error> {
    let granularity = match options.pages {
        Pages::Normal => NonZeroUsize::MIN,
        Pages::Huge => huge_page_size().map_err(failure::of_call("reading /proc/meminfo"))?,
    };
    let plan = SegmentLayout::of::<T>(len, granularity, Removal::Persistent)?;
    let total = plan.total_len();
    let of_memory = |call| {
        move |source| match options.pages {
            Pages::Normal => failure::of_memory(total.get(), call)(source),
            Pages::Huge => failure::of_huge_pages(total.get(), call)(source),
        }
    };
    let file = memfd::create(&format!("{LABEL}{label}"), options.pages)
        .map_err(of_memory("memfd_create"))?;
    regular_file::fchmod(&file, OWNER_ONLY).map_err(failure::of_call("fchmod"))?;
    // Not reserved page by page, as in a file system with a limit of its own: here
    // that would go on until the machine has no memory left. The kernel is asked
    // whether it would promise so much; huge pages it sets aside when they are
    // mapped.
    if options.pages == Pages::Normal {
        drop(Mapping::private(total).map_err(of_memory("mmap"))?);
    }
    regular_file::set_len(&file, total).map_err(of_memory("ftruncate"))?;
    memfd::seal(&file).map_err(failure::of_call("fcntl(F_ADD_SEALS)"))?;
    let mapping = Mapping::of_file(&file, total).map_err(of_memory("mmap"))?;
    options.settle_in(&mapping)?;
    // The caller's own code runs next, and may close all descriptors.
    let file = keep(file)?;
    // SAFETY: the mapping is new, of that length, and nobody else knows it.
    unsafe { plan.write_header(&mapping) };
    // SAFETY: as above; a new file is zero. The mapping stays as `Segment` keeps
    // it.
    let value = unsafe { plan.fill(&mapping, write) }?;
    Ok((value, Hold::sealed(mapping, file)))
}

/// Opens the segment behind a descriptor.
pub(in crate::segment) fn open<T: SegmentContent + ?Sized>(
    options: &SegmentOptions,
    file: OwnedFd,
) -> Result<(NonNull<T>, Hold), Error> {
    if !is_sealed(&file)? {
        return Err(Error::Unsealed);
    }
    let file = keep(file)?;
    let lent = || file.get().map_err(failure::of_call("fstat"));
    let len = regular_file::fstat(lent()?)
        .map_err(failure::of_call("fstat"))?
        .len;
    let header = file::read_header(lent()?, len)?;
    let elements = header.check_layout::<T>()?;
    if header.pid_namespace != init::init_context()?.pid_namespace {
        return Err(Error::ForeignPidNamespace);
    }
    let total = usize::try_from(len).ok().and_then(NonZeroUsize::new);
    let total = total.ok_or(Error::NotASegment)?;
    let mapping = Mapping::of_file_with(lent()?, total, Access::ReadWrite).map_err(|source| {
        match is_not_permitted(&source) {
            true => Error::PermissionDenied, // sealed against writing
            false => failure::of_memory(total.get(), "mmap")(source),
        }
    })?;
    options.settle_in(&mapping)?;
    // SAFETY: the header is of this object, and all of it is mapped.
    let base = unsafe { writer::value_in(&mapping, &header) };
    Ok((T::at(base, elements), Hold::sealed(mapping, file)))
}

fn keep(file: OwnedFd) -> Result<CheckedFd, Error> {
    CheckedFd::new(file).map_err(failure::of_call("fcntl(F_DUPFD_CLOEXEC)"))
}

fn is_sealed(file: impl AsFd) -> Result<bool, Error> {
    memfd::is_sealed_against_shrinking(file).map_err(failure::of_call("fcntl(F_GET_SEALS)"))
}
