//! POSIX objects and files: built without a name and published whole; checked
//! before they are mapped.

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::ptr::NonNull;

use crate::error::{Error, Unsupported};
use crate::init;
use crate::os::descriptor::CheckedFd;
use crate::os::mem::{Access, Mapping, Pages};
use crate::os::regular_file::{self, FileStat, SHM_DIRECTORY};
use crate::segment::backing::Hold;
use crate::segment::backing::attachment::{self, FileAttachment, Owner, ReinitLock, RemoveOutcome};
use crate::segment::content::SegmentContent;
use crate::segment::failure;
use crate::segment::format::epoch::{Epoch, Validity};
use crate::segment::format::header::{self, Header};
use crate::segment::format::writer::{self, SegmentLayout};
use crate::segment::options::{OwnerCheck, SegmentOptions};
use crate::shm_safe::{FieldPath, Visitor};

/// A complete segment that has no name yet. Dropping it, or dying with it,
/// leaves nothing behind.
#[derive(Debug)]
pub(in crate::segment) struct Unpublished<T: ?Sized> {
    value: NonNull<T>,
    mapping: Mapping,
    file: CheckedFd,
}

impl<T: SegmentContent + ?Sized> Unpublished<T> {
    /// Reserves memory where `path` will be, and fills it.
    pub(in crate::segment) fn build(
        options: &SegmentOptions,
        path: &Path,
        len: usize,
        write: impl FnOnce(NonNull<T>, usize),
    ) -> Result<Self, Error> {
        if options.pages == Pages::Huge {
            return Err(Error::Unsupported(Unsupported::HugePages));
        }
        let mut plan = SegmentLayout::of::<T>(len, NonZeroUsize::MIN, options.removal)?;
        let total = plan.total_len();
        let of_memory = |call| failure::of_memory(total.get(), call);
        let file = regular_file::open_tmpfile(directory_of(path))
            .map_err(failure::of_unnamed_file(total.get()))?;
        regular_file::fchown(&file, options.owner, options.group)
            .map_err(failure::of_call("fchown"))?;
        regular_file::fchmod(&file, options.mode).map_err(failure::of_call("fchmod"))?;
        // Where that fails, the segment works until the file system is full.
        let _ = regular_file::disable_copy_on_write(&file);
        regular_file::reserve(&file, total).map_err(of_memory("posix_fallocate"))?;
        plan.set_epoch(Epoch::of(&file)?);

        let mapping = Mapping::of_file(&file, total).map_err(of_memory("mmap"))?;
        options.settle_in(&mapping)?;
        // The caller's own code runs next, and may close all descriptors.
        let file = CheckedFd::new(file).map_err(failure::of("fstat"))?;
        // SAFETY: the mapping is new, of that length, and nobody else knows it.
        unsafe { plan.write_header(&mapping) };
        // SAFETY: as above; a new file is zero. The mapping stays as `Segment`
        // keeps it.
        let value = unsafe { plan.fill(&mapping, write) }?;
        if !path.starts_with(SHM_DIRECTORY) {
            // Not a name without its content, should the power fail.
            let synced = file.get().and_then(regular_file::sync);
            synced.map_err(failure::of_call("fsync"))?;
        }
        Ok(Self {
            value,
            mapping,
            file,
        })
    }

    /// Gives it its name. If the name is taken, hands everything back.
    pub(in crate::segment) fn publish(
        self,
        options: &SegmentOptions,
        path: &Path,
    ) -> Result<(NonNull<T>, Hold), (Self, Error)> {
        let Self {
            value,
            mapping,
            file,
        } = self;
        // Attached before it has a name, so that nobody ever finds it abandoned.
        // By a copy of the descriptor: both are of one open file.
        let attached = file
            .get()
            .and_then(|file| file.try_clone_to_owned())
            .and_then(|file| FileAttachment::new(file, path.to_owned(), Access::ReadWrite));
        let failed = match attached {
            Ok(mut attached) => match attached
                .file()
                .and_then(|file| regular_file::link_at(file, path))
            {
                Ok(()) => {
                    attached.set_removal(options.removal);
                    return Ok((value, Hold::named(mapping, attached)));
                }
                Err(source) => {
                    // It is not the name that is missing then, but a directory.
                    match source.kind() {
                        std::io::ErrorKind::NotFound => Error::Os {
                            call: "linkat from /proc/self/fd",
                            source,
                        },
                        _ => failure::of("linkat")(source),
                    }
                }
            },
            Err(source) => failure::of_lock("fcntl(F_OFD_SETLK)")(source),
        };
        let again = Self {
            value,
            mapping,
            file,
        };
        Err((again, failed))
    }
}

/// Opens what `path` leads to, after checking that it is what it should be.
pub(in crate::segment) fn open<T: SegmentContent + ?Sized>(
    options: &SegmentOptions,
    path: &Path,
    access: Access,
) -> Result<(NonNull<T>, Hold), Error> {
    loop {
        let (file, facts) = open_checked(options, path, access)?;
        let header = read_header(&file, facts.len)?;
        let len = header.check_layout::<T>()?;
        // A process that only reads uses no lock, so it needs none to be valid.
        let here = match access {
            Access::ReadWrite => Some(Validity::of(&file)?),
            Access::ReadOnly => None,
        };
        let of_lock = || failure::of_lock("fcntl(F_OFD_SETLK)");
        let reviver = match here {
            Some(here) if !header.validity().matches(here) => {
                Some(ReinitLock::new(&file).map_err(of_lock())?)
            }
            _ => None,
        };
        let is_in_use = attachment::is_in_use(&file);
        let mut attached = FileAttachment::new(file, path.to_owned(), access).map_err(of_lock())?;
        if is_in_use {
            attached.set_removal(header.removal); // also if this fails: see `is_in_use`
        }
        let mapping =
            map(&attached, &header, access).inspect_err(|_| attached.prepare_to_leave())?;
        let mut hold = Hold::named(mapping, attached);
        if let (Some(reviver), Some(here)) = (reviver, here) {
            bring_home::<T>(&reviver, &hold, &header, here, len)?;
        }
        if here.is_some_and(|here| !Validity::load(hold.mapping()).matches(here)) {
            continue; // brought to life elsewhere in this very moment
        }
        // The name may have been taken away or given to another object meanwhile.
        // Opening the new one is what the caller wants then.
        if hold.is_linked()? {
            options.settle_in(hold.mapping())?;
            hold.arm(header.removal);
            // SAFETY: the header is of this object, and all of it is mapped.
            let base = unsafe { writer::value_in(hold.mapping(), &header) };
            return Ok((T::at(base, len), hold));
        }
    }
}

/// Reserves all memory of a file whose locks are revived: it may be a copy that shares
/// its blocks with another file, or has holes.
fn own_all_blocks(hold: &Hold) -> Result<(), Error> {
    let len = hold.mapping().len();
    let (Some(file), Some(bytes)) = (hold.file(), NonZeroUsize::new(len)) else {
        return Ok(());
    };
    match regular_file::unshare(file, bytes).map_err(failure::of_memory(len, "fallocate")) {
        Err(error @ Error::NoSpace { .. }) => Err(error),
        // Where it can't be had, a full file system ends in SIGBUS.
        _ => Ok(()),
    }
}

fn map(attached: &FileAttachment, header: &Header, access: Access) -> Result<Mapping, Error> {
    let len = usize::try_from(header.total_len).ok();
    let len = len.and_then(NonZeroUsize::new).ok_or(Error::NotASegment)?;
    let file = attached.file().map_err(failure::of_call("fstat"))?;
    Mapping::of_file_with(file, len, access).map_err(failure::of_memory(len.get(), "mmap"))
}

/// Makes sure that the locks mean something here and now.
///
/// An object outlives the container in which its locks came to life, a file also
/// the boot of the machine, and it can be copied. Its lock words then name threads
/// that are no more, or threads that hold the locks of the original. The process that
/// finds that brings the locks back to life; those that were held are poisoned. See
/// [`attach`](crate::segment::attach) for why nobody uses a lock meanwhile.
fn bring_home<T: SegmentContent + ?Sized>(
    reviver: &ReinitLock,
    hold: &Hold,
    header: &Header,
    here: Validity,
    len: usize,
) -> Result<(), Error> {
    let of_lock = || failure::of_lock("fcntl(F_OFD_SETLK)");
    let mapping = hold.mapping();
    // Another process may have been faster.
    let found = Validity::load(mapping);
    if found.matches(here) {
        return Ok(());
    }
    if !reviver.exclude_others().map_err(of_lock())? {
        reviver.leave().map_err(of_lock())?;
        return Err(match found.epoch.matches(here.epoch) {
            true => Error::ForeignPidNamespace,
            false => Error::InUse,
        });
    }
    let revived = own_all_blocks(hold).and_then(|()| {
        let placement = init::init_context()?;
        // SAFETY: the header is of this object, and all of it is mapped.
        let base = unsafe { writer::value_in(mapping, header) };
        let walk = |report: &mut Visitor<'_>| T::visit(len, &FieldPath::root(), report);
        // First: a death from here on is noticed by the next opener.
        Validity::invalidate(mapping);
        // SAFETY: a T lies there, as its header says; no other process uses its locks yet.
        unsafe { init::reinit_all(base, placement, walk) }
    });
    if let Err(error) = revived {
        // By name: a child that another thread forked meanwhile has a copy of the
        // descriptor, and would keep all others waiting.
        let _ = reviver.leave();
        return Err(error);
    }
    // Last: a death before it lets the next one start over.
    here.publish(mapping);
    reviver.admit_others().map_err(of_lock())
}

/// Removes what `path` leads to if it is a segment that nobody is attached to,
/// whatever it holds.
pub(in crate::segment) fn remove_if_abandoned(
    options: &SegmentOptions,
    path: &Path,
) -> Result<RemoveOutcome, Error> {
    let (file, facts) = open_checked(options, path, Access::ReadWrite)?;
    match read_header(&file, facts.len) {
        // Ours, if damaged or of another version.
        Ok(_) | Err(Error::Corrupt(_) | Error::UnsupportedFormat { .. }) => {}
        Err(other) => return Err(other),
    }
    let owner = match options.trust {
        OwnerCheck::Owner | OwnerCheck::Group => Owner::Trusted,
        OwnerCheck::Anybody => Owner::Stranger,
    };
    attachment::remove_if_abandoned(file, path, owner).map_err(failure::of_removal("unlink"))
}

/// Opens what `path` leads to, and checks all that is known before the first byte
/// is read.
fn open_checked(
    options: &SegmentOptions,
    path: &Path,
    access: Access,
) -> Result<(OwnedFd, FileStat), Error> {
    let file = regular_file::open(path, access)
        .map_err(failure::of("open"))?
        .ok_or(Error::NotASegment)?;
    let facts = facts(&file)?;
    if !facts.is_regular {
        return Err(Error::NotASegment);
    }
    options.check_permissions(facts.owner, facts.group, facts.mode)?;
    Ok((file, facts))
}

fn facts(file: &OwnedFd) -> Result<FileStat, Error> {
    regular_file::fstat(file).map_err(failure::of("fstat"))
}

/// Reads the header by `read`, not through a mapping: a file that shrinks
/// meanwhile is an error, not a `SIGBUS`.
pub(in crate::segment) fn read_header(
    file: impl std::os::fd::AsFd,
    object_len: u64,
) -> Result<Header, Error> {
    let mut bytes = [0; header::LEN];
    let filled = regular_file::read_at(file, &mut bytes, 0).map_err(failure::of("pread"))?;
    if filled < bytes.len() {
        return Err(Error::NotASegment);
    }
    Header::parse(&bytes, object_len)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// The directory of a file that is to be made, to make its entry last should the power
/// fail. `None` where that means nothing, or can't be had.
pub(in crate::segment) fn durable_directory(path: &Path) -> Option<std::fs::File> {
    match path.starts_with(SHM_DIRECTORY) {
        true => None,
        false => std::fs::File::open(directory_of(path)).ok(),
    }
}
