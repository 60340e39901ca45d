//! Looking at, opening and removing a System V segment of any bytes: for the fuzzer.

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
use crate::segment::{Address, Segment, SegmentContent};
use crate::sync::ShmMutex;

/// Half the time for which the library waits for another process. The library never
/// waits so long for a segment that no other process uses.
const AT_ONCE: Duration = Duration::from_secs(5);

/// The bits that let others than the owner write.
const OTHERS_WRITE: u32 = 0o022;

/// What the fuzzer chooses beside the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Choices {
    /// The permission bits.
    pub mode: u32,
    /// The creator has given the segment to another user.
    pub is_given_away: bool,
    /// Another mapping of this process is attached all the time.
    pub is_attached: bool,
}

impl Choices {
    /// Returns whether the library may take the lock in the segment.
    fn is_trusted(self) -> bool {
        !self.is_given_away && self.mode & OTHERS_WRITE == 0
    }

    /// Returns whether a look may finish what a dead creator or remover has left.
    fn may_change(self) -> bool {
        self.is_trusted() && !self.is_attached
    }
}

/// Puts the bytes into two private segments. Looks at the first one as the tool does,
/// and opens it for reading. Removes the second one.
///
/// # Panics
///
/// * If this process is not root.
/// * If the library returns another error than those bytes can cause, or waits.
/// * If the library changes a segment that it must not change, or fails to remove one.
pub fn system_v(bytes: &[u8], choices: Choices) {
    let Some(len) = NonZeroUsize::new(bytes.len()) else {
        return;
    };
    look(&Temporary::new(len, bytes, choices));
    remove(&Temporary::new(len, bytes, choices));
}

fn look(segment: &Temporary<'_>) {
    let address = &segment.address();
    let mut paths = vec![String::new()];
    match at_once(|| inspect::details(address, 10)) {
        Ok(details) => paths.extend(details.sync_objects.into_iter().map(|object| object.path)),
        Err(error) => segment.accept_from_look(&error),
    }
    segment.check();
    if let Some(path) = paths.last()
        && let Err(error) = at_once(|| inspect::sync_object(address, path))
    {
        match error {
            Error::NotASegment | Error::UnsupportedFormat { .. } | Error::Corrupt(_) => {}
            error => segment.accept_from_look(&error),
        }
    }
    segment.check();
    open::<ShmMutex<u64>>(segment);
    open::<[u32; 8]>(segment);
}

fn open<T: SegmentContent + ?Sized>(segment: &Temporary<'_>) {
    match at_once(|| Segment::<T>::open_read_only(segment.address().as_str())) {
        Ok(opened) => {
            assert!(segment.choices.is_trusted());
            assert!(opened.is_linked().is_ok());
        }
        Err(
            Error::NotASegment
            | Error::UnsupportedFormat { .. }
            | Error::Corrupt(_)
            | Error::LayoutMismatch { .. },
        ) => assert!(segment.choices.is_trusted()),
        Err(Error::WrongOwner { .. }) => assert!(segment.choices.is_given_away),
        Err(Error::TooPermissive { .. }) => assert!(!segment.choices.is_trusted()),
        // A reader does not find what is not complete.
        Err(Error::NotFound) => assert!(segment.choices.is_trusted()),
        Err(error) => segment.accept_from_look(&error),
    }
    segment.check();
}

fn remove(segment: &Temporary<'_>) {
    match at_once(|| inspect::remove(&segment.address())) {
        Ok(()) => {
            assert!(segment.is_gone() && !segment.choices.is_attached);
            return segment.check_bytes();
        }
        Err(Error::InUse) => assert!(segment.choices.is_attached),
        Err(Error::NotASegment) => assert!(!segment.is_gone()),
        Err(error) => segment.accept_from_look(&error),
    }
    segment.check();
}

/// Calls the library, which must not wait.
fn at_once<R>(call: impl FnOnce() -> R) -> R {
    let begun = Instant::now();
    let returned = call();
    assert!(begun.elapsed() < AT_ONCE, "waited {:?}", begun.elapsed());
    returned
}

/// A private segment, removed when dropped, and also when this thread panics: the
/// fuzzer aborts before a panic unwinds.
struct Temporary<'a> {
    id: Id,
    bytes: &'a [u8],
    choices: Choices,
    /// The memory itself: opening it is no attachment, and it outlives the removal.
    memory: File,
    /// Detached when dropped.
    _attachment: Option<Mapping>,
}

/// The segment to remove before a panic aborts; negative: none.
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
        // SAFETY: `bytes` is readable. The mapping is writable and has as many bytes, as
        // just checked. They don't overlap, because the mapping is new. No other thread
        // or process knows the segment.
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
    fn accept_from_look(&self, error: &Error) {
        match error {
            Error::NotFound if self.choices.may_change() => assert!(self.is_gone()),
            error => panic!("{error:?}"),
        }
    }

    /// Checks that the library has left the segment alone, if it must.
    fn check(&self) {
        assert!(self.choices.may_change() || !self.is_gone());
        self.check_bytes();
    }

    /// Checks that the library has left the bytes alone, if it must.
    fn check_bytes(&self) {
        if self.choices.may_change() {
            return;
        }
        let mut found = vec![0; self.bytes.len()];
        self.memory.read_exact_at(&mut found, 0).unwrap();
        assert!(found == self.bytes, "the bytes have changed");
    }
}

/// Opens the memory that is mapped. Needs the rights of root.
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
