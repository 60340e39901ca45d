//! Entry point of the fuzzer: inspects, opens and removes a System V segment with any
//! bytes.

use std::fs::File;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::inspect;
use crate::os::mem::sysv_shm::{self, Id};
use crate::os::mem::{Access, Mapping, Pages, page_size};
use crate::segment::{Address, Segment};
use crate::shm_safe::SegmentContent;
use crate::sync::ShmMutex;

/// Half the time that the library waits for another process. For a segment that no
/// other process uses, it must never wait that long.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The permission bits by which other users may write.
const OTHERS_WRITE: u32 = 0o022;

/// The choices of the fuzzer beside the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Choices {
    /// The permission bits.
    pub mode: u32,
    /// The creator has given the segment to another user.
    pub is_given_away: bool,
    /// Another attachment of this process exists during the whole run.
    pub is_attached: bool,
}

impl Choices {
    /// Returns whether the library may lock the segment.
    fn is_trusted(self) -> bool {
        !self.is_given_away && self.mode & OTHERS_WRITE == 0
    }

    /// Returns whether an inspection may finish the work of a dead creator or remover.
    fn may_change(self) -> bool {
        self.is_trusted() && !self.is_attached
    }
}

/// Copies the bytes into two private segments. Inspects the first one as the tool does,
/// and opens it for reading. Removes the second one.
///
/// # Panics
///
/// * If this process is not root.
/// * If the library returns another error than those bytes can cause, or waits.
/// * If the library changes a segment that it must not change, or does not remove one.
pub fn system_v(bytes: &[u8], choices: Choices) {
    let Some(len) = NonZeroUsize::new(bytes.len()) else {
        return;
    };
    inspect_and_open(&Temporary::new(len, bytes, choices));
    remove(&Temporary::new(len, bytes, choices));
}

fn inspect_and_open(segment: &Temporary<'_>) {
    let address = &segment.address();
    let mut paths = vec![String::new()];
    match at_once(|| inspect::details(address, 10)) {
        Ok(details) => paths.extend(details.sync_objects.into_iter().map(|object| object.path)),
        Err(error) => segment.accept_error(&error),
    }
    segment.check();
    if let Some(path) = paths.last()
        && let Err(error) = at_once(|| inspect::sync_object(address, path))
    {
        match error {
            Error::NotASegment { .. } | Error::UnsupportedFormat { .. } | Error::Corrupt { .. } => {
            }
            error => segment.accept_error(&error),
        }
    }
    segment.check();
    open::<ShmMutex<u64>>(segment);
    open::<[u32; 8]>(segment);
}

fn open<T: SegmentContent + ?Sized>(segment: &Temporary<'_>) {
    match at_once(|| Segment::<T>::open_read_only(segment.address())) {
        Ok(opened) => {
            assert!(segment.choices.is_trusted());
            assert!(opened.is_linked().is_ok());
        }
        Err(
            Error::NotASegment { .. }
            | Error::UnsupportedFormat { .. }
            | Error::Corrupt { .. }
            | Error::LayoutMismatch { .. },
        ) => assert!(segment.choices.is_trusted()),
        Err(Error::WrongOwner { .. }) => assert!(segment.choices.is_given_away),
        Err(Error::TooPermissive { .. }) => assert!(!segment.choices.is_trusted()),
        // A reader does not find an unfinished segment.
        Err(Error::NotFound { .. }) => assert!(segment.choices.is_trusted()),
        Err(error) => segment.accept_error(&error),
    }
    segment.check();
}

fn remove(segment: &Temporary<'_>) {
    match at_once(|| inspect::remove(&segment.address())) {
        Ok(()) => {
            assert!(segment.is_gone() && !segment.choices.is_attached);
            return segment.check_bytes();
        }
        Err(Error::InUse { .. }) => assert!(segment.choices.is_attached),
        Err(Error::NotASegment { .. }) => assert!(!segment.is_gone()),
        Err(error) => segment.accept_error(&error),
    }
    segment.check();
}

/// Calls the library and checks that it does not wait.
fn at_once<R>(call: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let returned = call();
    assert!(begun.elapsed() < AT_ONCE, "waited {:?}", begun.elapsed());
    returned
}

/// A private segment. `drop` removes it. A panic hook removes it as well, because the
/// fuzzer aborts before a panic unwinds.
struct Temporary<'a> {
    id: Id,
    bytes: &'a [u8],
    choices: Choices,
    /// The memory as a file. Opening it is no attachment, and it exists after a
    /// removal.
    memory: File,
    _attachment: Option<Mapping>,
}

/// The segment that the panic hook removes, or a negative number.
static CURRENT: AtomicI32 = AtomicI32::new(-1);

impl<'a> Temporary<'a> {
    fn new(len: NonZeroUsize, bytes: &'a [u8], choices: Choices) -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let next = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                let _ = sysv_shm::remove(Id(CURRENT.load(Ordering::Relaxed)));
                next(panic);
            }));
        });
        let id = sysv_shm::create_private(len, 0o600, Pages::Normal).unwrap();
        CURRENT.store(id.0, Ordering::Relaxed);
        let mapping = sysv_shm::attach(id, Access::ReadWrite).unwrap();
        let mut segment = Self {
            id,
            bytes,
            choices,
            memory: memory_of(&mapping),
            _attachment: None,
        };
        assert_eq!(mapping.len(), bytes.len());
        // SAFETY: `bytes` is readable. The mapping is writable and has the same length,
        // as checked above. They do not overlap, because the mapping is new. No other
        // thread or process knows the segment.
        unsafe { mapping.base().as_ptr().copy_from(bytes.as_ptr(), len.get()) };
        if choices.is_attached {
            segment._attachment = Some(mapping);
        }
        let owner = choices.is_given_away.then_some(1);
        sysv_shm::set_permissions(id, owner, None, choices.mode).unwrap();
        segment
    }

    fn address(&self) -> Address {
        Address::system_v_id(self.id.0)
    }

    fn is_gone(&self) -> bool {
        sysv_shm::status(self.id).is_err_and(|error| sysv_shm::is_removed_error(&error))
    }

    /// Accepts an error that the choices can cause.
    fn accept_error(&self, error: &Error) {
        match error {
            Error::NotFound { .. } if self.choices.may_change() => assert!(self.is_gone()),
            error => panic!("{error:?}"),
        }
    }

    /// Checks that the segment exists, unless the library may remove it.
    fn check(&self) {
        assert!(self.choices.may_change() || !self.is_gone());
        self.check_bytes();
    }

    /// Checks that the bytes are unchanged, unless the library may change them.
    fn check_bytes(&self) {
        if self.choices.may_change() {
            return;
        }
        let mut found = vec![0; self.bytes.len()];
        self.memory.read_exact_at(&mut found, 0).unwrap();
        assert!(found == self.bytes, "the bytes have changed");
    }
}

/// Opens the mapped memory as a file. Only root may do this.
fn memory_of(mapping: &Mapping) -> File {
    let start = mapping.base().as_ptr().addr();
    let end = start + mapping.len().next_multiple_of(page_size());
    File::open(format!("/proc/self/map_files/{start:x}-{end:x}")).unwrap()
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        let _ = sysv_shm::remove(self.id);
        CURRENT.store(-1, Ordering::Relaxed);
    }
}
