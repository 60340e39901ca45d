//! How a segment comes to be, and how it is found: built without a name and
//! published whole; checked before it is mapped.

use std::io;
use std::os::fd::OwnedFd;

use super::header::{self, Header};
use super::name::{Name, from_os};
use super::{Extent, Segment};
use crate::error::Error;
use crate::os::mman::Mapping;
use crate::os::posix_shm::{self, Facts};
use crate::os::process;
use crate::place::place_at;
use crate::shm_safe::ShmSafe;

/// A complete segment that has no name yet. Dropping it, or dying with it,
/// leaves nothing behind.
pub(super) struct Unpublished<T: ShmSafe> {
    file: OwnedFd,
    segment: Segment<T>,
}

impl<T: ShmSafe> Unpublished<T> {
    /// Reserves memory, writes the header and places the value.
    pub(super) fn build(mode: u32, value: T) -> Result<Self, Error> {
        let len = Extent::of::<T>().total_len;
        let file = posix_shm::create_unnamed(mode)
            .map_err(|source| no_space_or(len.get(), "open(O_TMPFILE) in /dev/shm", source))?;
        posix_shm::reserve(&file, len)
            .map_err(|source| no_space_or(len.get(), "posix_fallocate", source))?;
        let mapping = Mapping::of_file(&file, len)
            .map_err(|source| no_space_or(len.get(), "mmap", source))?;
        Ok(Self {
            file,
            segment: fill(mapping, value)?,
        })
    }

    /// Gives it its name. If the name is taken, hands everything back.
    pub(super) fn publish(mut self, name: Name) -> Result<Segment<T>, (Self, Error)> {
        match posix_shm::publish(&self.file, name.as_str()) {
            Ok(()) => {
                self.segment.name = Some(name);
                Ok(self.segment)
            }
            // It is not the name that is missing then, but /proc or /dev/shm.
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                let call = "linkat from /proc/self/fd to /dev/shm";
                Err((self, Error::Os { call, source }))
            }
            Err(source) => Err((self, from_os("linkat", source))),
        }
    }
}

/// A segment that never gets a name.
pub(super) fn anonymous<T: ShmSafe>(value: T) -> Result<Segment<T>, Error> {
    let len = Extent::of::<T>().total_len;
    let mapping =
        Mapping::anonymous(len).map_err(|source| no_space_or(len.get(), "mmap", source))?;
    fill(mapping, value)
}

/// Writes header and value into a fresh mapping.
fn fill<T: ShmSafe>(mapping: Mapping, value: T) -> Result<Segment<T>, Error> {
    let header = Header::of::<T>(process::pid_namespace()?).to_bytes();
    let extent = Extent::of::<T>();
    // SAFETY: the mapping is at least `header::LEN` long by `Extent`, and this
    // function has it to itself.
    unsafe {
        mapping
            .base()
            .as_ptr()
            .copy_from_nonoverlapping(header.as_ptr(), header.len());
    }
    // SAFETY: by `Extent`, the value lies inside the mapping.
    let destination = unsafe { mapping.base().add(extent.value_offset) }.cast::<T>();
    // SAFETY: `Extent` aligns the value for T (the base is aligned to a page);
    // nobody else knows the mapping yet; `Segment` keeps it for as long as the
    // value is used or a lock in it held, and lends it for no longer.
    unsafe { place_at(destination, value) }?;
    // SAFETY: placed just now, at that offset.
    Ok(unsafe { Segment::from_mapping(mapping, extent.value_offset, None) })
}

/// Opens what `name` leads to, after checking that it is what it should be.
pub(super) fn open<T: ShmSafe>(name: &Name, mode: u32, owner: u32) -> Result<Segment<T>, Error> {
    loop {
        let file = posix_shm::open(name.as_str())
            .map_err(|source| from_os("shm_open", source))?
            .ok_or(Error::NotASegment)?;
        let facts = posix_shm::facts(&file).map_err(|source| from_os("fstat", source))?;
        check_facts(&facts, mode, owner)?;
        let header = read_header(&file, facts.len)?;
        header.check_layout::<T>()?;
        if header.pid_namespace != process::pid_namespace()? {
            return Err(Error::ForeignPidNamespace);
        }

        let extent = Extent::of::<T>();
        let mapping = Mapping::of_file(&file, extent.total_len)
            .map_err(|source| no_space_or(extent.total_len.get(), "mmap", source))?;
        // The name may have been removed or given to another object meanwhile.
        // Opening the new one is what the caller wants then.
        let now =
            posix_shm::facts_of_name(name.as_str()).map_err(|source| from_os("lstat", source))?;
        if now.identity == facts.identity {
            // SAFETY: the object was published, hence complete, and its header
            // says that a T of our layout was placed at that offset.
            return Ok(unsafe {
                Segment::from_mapping(mapping, extent.value_offset, Some(name.clone()))
            });
        }
    }
}

/// Checks what is known before the first byte is read.
fn check_facts(facts: &Facts, mode: u32, owner: u32) -> Result<(), Error> {
    /// The bits that let others than the owner write.
    const OTHERS_WRITE: u32 = 0o022;

    if !facts.is_regular {
        return Err(Error::NotASegment);
    }
    if facts.owner != owner {
        return Err(Error::WrongOwner {
            expected: owner,
            found: facts.owner,
        });
    }
    if facts.mode & OTHERS_WRITE & !mode != 0 {
        return Err(Error::TooPermissive {
            allowed: mode,
            found: facts.mode,
        });
    }
    Ok(())
}

/// Reads the header by `read`, not through a mapping: a file that shrinks
/// meanwhile is an error, not a `SIGBUS`.
fn read_header(file: &OwnedFd, object_len: u64) -> Result<Header, Error> {
    let mut bytes = [0; header::LEN];
    let filled =
        posix_shm::read_start(file, &mut bytes).map_err(|source| from_os("pread", source))?;
    if filled < bytes.len() {
        return Err(Error::NotASegment);
    }
    Header::parse(&bytes, object_len)
}

fn no_space_or(bytes: usize, call: &'static str, source: io::Error) -> Error {
    use io::ErrorKind;
    match source.kind() {
        ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded
        | ErrorKind::FileTooLarge
        | ErrorKind::OutOfMemory => Error::NoSpace { bytes },
        // There is no name yet that could be missing: it is the directory.
        ErrorKind::NotFound => Error::Os { call, source },
        _ => from_os(call, source),
    }
}
