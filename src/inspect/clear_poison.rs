//! Taking back a mark of poison, by hand.

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use thiserror::Error as ThisError;

use super::find;
use super::reader::{Reader, os_error};
use crate::error::{Error, PoisonCause};
use crate::os::mem::{Access, Mapping};
use crate::os::{mem::sysv_shm, proc::fd, regular_file};
use crate::segment::Address;
use crate::segment::internals::Target;
use crate::shm_safe::SyncKind;
use crate::sync::raw_view::{self, MUTEX_LEN};
use crate::sync::snapshot::LockState;

/// Why poison was not cleared.
#[non_exhaustive]
#[derive(Debug, ThisError)]
pub enum ClearPoisonError {
    /// The segment can't be read, or not be written to.
    #[error(transparent)]
    Segment(#[from] Error),
    /// It has no mutex of that path.
    #[error("the segment has no mutex {path:?}")]
    NoSuchMutex {
        /// What was asked for.
        path: String,
    },
    /// It is not poisoned (any more).
    #[error("the mutex is not poisoned")]
    NotPoisoned,
    /// It was poisoned for another reason than the one given.
    #[error("the mutex was poisoned again: {0}")]
    Changed(PoisonCause),
    /// Its holder died, and nobody has locked it since: whoever does so next marks
    /// it.
    #[error("its holder died, and nobody has locked it since: whoever locks it next is told")]
    OwnerDied,
}

/// Takes the mark of poison from a mutex: whoever calls this vouches for the data.
/// Better ways are [`Poisoned::recover`](crate::Poisoned::recover), which repairs
/// it, and [`ShmMutex::clear_poison`](crate::ShmMutex::clear_poison), both of which
/// know the type.
///
/// `expected` is the cause that was looked into: if it was poisoned again since,
/// that mark stays. The lock is not touched, and this call waits for no process. It changes one
/// word inside the segment, which every user with the right to write could change as well.
///
/// ```
/// use shm_sync::inspect::{self, ClearPoisonError};
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-clear-poison-{}", std::process::id());
/// # let name = name.as_str();
/// let segment = Segment::create(name, ShmMutex::new(0_u64))?;
/// let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
///     let _guard = segment.lock();
///     panic!("halfway");
/// }));
/// # assert!(died.is_err());
/// let cause = match segment.lock() {
///     Err(shm_sync::LockError::Poisoned(poisoned)) => poisoned.cause(),
///     _ => panic!("it is poisoned"),
/// };
/// inspect::clear_poison(&name.parse()?, "", cause).unwrap();
/// assert!(!segment.is_poisoned());
///
/// let again = inspect::clear_poison(&name.parse()?, "", cause);
/// assert!(matches!(again, Err(ClearPoisonError::NotPoisoned)));
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// See [`ClearPoisonError`].
pub fn clear_poison(
    address: &Address,
    path: &str,
    expected: PoisonCause,
) -> Result<(), ClearPoisonError> {
    // Of a System V segment, this stays until the other attachment has gone: it
    // leaves as a user does.
    let (_, opened) = find::find_readable(address)?;
    let header = &opened.header;
    let no_such_mutex = || ClearPoisonError::NoSuchMutex {
        path: path.to_owned(),
    };
    let mut mutexes = opened.entries.iter();
    let offset = mutexes
        .find_map(|entry| entry.find(path).filter(|_| entry.kind == SyncKind::Mutex))
        .ok_or_else(no_such_mutex)?;
    let bytes = Reader::new(&opened).bytes::<MUTEX_LEN>(offset);
    let found = raw_view::mutex(bytes.ok_or_else(no_such_mutex)?);
    if found.lock == LockState::OwnerDied {
        return Err(ClearPoisonError::OwnerDied);
    }

    let mapping = match opened.system_v_id() {
        // Not by the key, which may have passed to another segment.
        Some(id) => attach(id)?,
        None => map(address, header.total_len)?,
    };
    let at = header.value_offset + offset;
    let place = mutex_in(&mapping, at).ok_or_else(no_such_mutex)?;
    // SAFETY: all of it is inside the mapping, and aligned: see `mutex_in`. The
    // mapping is writable. Others use it as this crate does, or it would not be a
    // segment.
    let cleared = unsafe { raw_view::clear_poison(place, expected) };
    cleared.map_err(|now| match now {
        None => ClearPoisonError::NotPoisoned,
        Some(other) => ClearPoisonError::Changed(other),
    })
}

fn attach(id: sysv_shm::Id) -> Result<Mapping, Error> {
    sysv_shm::attach(id, Access::ReadWrite).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Error::NotFound,
        _ => os_error("shmat")(error),
    })
}

/// Maps the file for writing. It is as long as `len`.
fn map(address: &Address, len: u64) -> Result<Mapping, Error> {
    let Target::File(path) = address.target()? else {
        return Err(Error::NotASegment);
    };
    let file = match fd::is_link(&path) {
        true => fd::open_link(&path, Access::ReadWrite),
        false => regular_file::open(&path, Access::ReadWrite),
    };
    let file = file.map_err(os_error("open"))?.ok_or(Error::NotASegment)?;
    let facts = regular_file::fstat(&file).map_err(os_error("fstat"))?;
    let wanted = usize::try_from(len).ok().and_then(NonZeroUsize::new);
    let wanted = wanted.filter(|_| facts.is_regular && facts.len == len);
    let wanted = wanted.ok_or(Error::NotASegment)?;
    Mapping::of_file(&file, wanted).map_err(os_error("mmap"))
}

/// Returns the mutex that begins `offset` bytes into the mapping. `None` if it is not
/// all inside the mapping, or not aligned.
fn mutex_in(mapping: &Mapping, offset: u64) -> Option<NonNull<u8>> {
    let offset = usize::try_from(offset).ok()?;
    let words = mapping.get::<[AtomicU64; MUTEX_LEN / 8]>(offset)?;
    Some(NonNull::from(words).cast())
}
