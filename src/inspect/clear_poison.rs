//! Clears the poison of a mutex in a segment of any type.

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

/// The reason why [`clear_poison`] did not clear the poison.
#[non_exhaustive]
#[derive(Debug, ThisError)]
pub enum ClearPoisonError {
    /// The segment can't be read or written.
    #[error(transparent)]
    Segment(#[from] Error),
    /// The segment has no mutex with this path.
    #[error("the segment has no mutex {path:?}")]
    NoSuchMutex {
        /// The path that the caller passed.
        path: String,
    },
    /// The mutex is not poisoned, or not any more.
    #[error("the mutex is not poisoned")]
    NotPoisoned,
    /// The mutex is poisoned for a reason other than the expected one.
    #[error("the mutex was poisoned again: {0}")]
    Changed(PoisonCause),
    /// The holder died, and no thread has locked the mutex since. The next locker
    /// poisons it.
    #[error("its holder died, and no thread has locked it since: the next locker is told")]
    OwnerDied,
}

/// Clears the poison of a mutex. The caller is responsible for the data.
///
/// If the type is known, [`Poisoned::recover`](crate::Poisoned::recover) and
/// [`ShmMutex::clear_poison`](crate::ShmMutex::clear_poison) are better, because the
/// program can repair the data.
///
/// `expected` is the cause that the caller has examined. If the mutex was poisoned
/// again since, the poison stays. The call does not lock the mutex and waits for no
/// process. It changes one word in the segment, which every user with write permission
/// could change.
///
/// ```
/// use shm_sync::inspect::{self, ClearPoisonError};
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let name = format!("/shm-sync-doc-clear-poison-{}", std::process::id());
/// # let name = name.as_str();
/// let segment = Segment::create(name, ShmMutex::new(0_u64))?;
/// let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
///     let _guard = segment.lock();
///     panic!("the data is half-changed");
/// }));
/// # assert!(died.is_err());
/// let cause = match segment.lock() {
///     Err(shm_sync::LockError::Poisoned(poisoned)) => poisoned.cause(),
///     _ => panic!("it is poisoned"),
/// };
/// inspect::clear_poison(&name.parse()?, "", cause)?;
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
    clear(address, path, expected).map_err(|error| match error {
        ClearPoisonError::Segment(error) => error.at(address).into(),
        other => other,
    })
}

fn clear(address: &Address, path: &str, expected: PoisonCause) -> Result<(), ClearPoisonError> {
    // For a System V segment, `opened` is an attachment. It is dropped after `mapping`,
    // and then removes the segment if it was the last user.
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
        // Attaches by the id, because another segment may have the key now.
        Some(id) => attach(id)?,
        None => map(address, header.total_len)?,
    };
    let mutex = mutex_in(&mapping, header.value_offset + offset).ok_or_else(no_such_mutex)?;
    // SAFETY:
    // * All bytes are inside the mapping (`mutex_in`), which is writable and exists
    //   until the end of this function.
    // * Aligned to 8 bytes: `mutex_in`.
    // * Other processes access them by atomic operations, as this crate does, because
    //   the header is that of a segment.
    let cleared = unsafe { raw_view::clear_poison(mutex, expected) };
    cleared.map_err(|current| match current {
        None => ClearPoisonError::NotPoisoned,
        Some(cause) => ClearPoisonError::Changed(cause),
    })
}

/// Attaches a System V segment for writing.
fn attach(id: sysv_shm::Id) -> Result<Mapping, Error> {
    sysv_shm::attach(id, Access::ReadWrite).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => Error::NotFound { address: None },
        _ => os_error("shmat")(error),
    })
}

/// Maps the file for writing, if it is `len` bytes long.
fn map(address: &Address, len: u64) -> Result<Mapping, Error> {
    let Target::File(path) = address.target()? else {
        return Err(Error::NotASegment { address: None });
    };
    let file = if fd::is_link(&path) {
        fd::open_link(&path, Access::ReadWrite)
    } else {
        regular_file::open(&path, Access::ReadWrite)
    };
    let file = file
        .map_err(os_error("open"))?
        .ok_or(Error::NotASegment { address: None })?;
    let stat = regular_file::fstat(&file).map_err(os_error("fstat"))?;
    let mapped_len = usize::try_from(len)
        .ok()
        .and_then(NonZeroUsize::new)
        .filter(|_| stat.is_regular && stat.len == len)
        .ok_or(Error::NotASegment { address: None })?;
    Mapping::of_file(&file, mapped_len).map_err(os_error("mmap"))
}

/// Returns the address of the mutex that begins `offset` bytes into the mapping, or
/// `None` if it exceeds the mapping or is not aligned.
fn mutex_in(mapping: &Mapping, offset: u64) -> Option<NonNull<u8>> {
    let offset = usize::try_from(offset).ok()?;
    let words = mapping.get::<[AtomicU64; MUTEX_LEN / 8]>(offset)?;
    Some(NonNull::from(words).cast())
}
