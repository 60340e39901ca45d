//! Typed shared memory: segments, created whole, opened only after every check.

mod header;
mod name;
mod options;
mod publish;

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr::NonNull;

use crate::error::Error;
use crate::os::mman::{MIN_PAGE, Mapping};
use crate::place;
use crate::shm_safe::ShmSafe;

pub use name::unlink;
pub use options::SegmentOptions;

use name::Name;

/// A `T` in memory that processes share.
///
/// It dereferences to `&T`. What should change while it is shared belongs in
/// a [`ShmMutex`](crate::ShmMutex) or an atomic.
///
/// ```
/// use shm_sync::{Segment, ShmMutex, unlink};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-segment-{}", std::process::id());
/// # let name = name.as_str();
/// // In one process, with a name such as "/jobs":
/// let mine = Segment::create(name, ShmMutex::new(0_u64))?;
/// *mine.lock()? += 1;
///
/// // In another:
/// let theirs = Segment::<ShmMutex<u64>>::open(name)?;
/// assert_eq!(*theirs.lock()?, 1);
///
/// unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// # Life
///
/// Dropping a segment unmaps it from this process and nothing else. The object
/// stays until [`unlink`] takes its name away *and* the last process has
/// dropped or died. A forked child inherits the mapping; whether and when it
/// drops its copy does not concern the parent.
///
/// If a lock in the segment is still held by this process when the segment is
/// dropped (a leaked guard), the mapping stays until the process ends, because
/// libc's and the kernel's lists of held locks lead through it.
///
/// # Crash behaviour
///
/// An object gets its name when it is complete, in one step. Whatever moment
/// its creator dies at, others find the whole object or none, and what it had
/// begun is freed by the kernel.
///
/// # Trust
///
/// Before an object is mapped, its owner, mode, kind, size, header, layout and
/// pid namespace are checked. Afterwards, whoever may write to it is trusted not
/// to damage it on purpose.
pub struct Segment<T: ShmSafe> {
    /// Unmapped by `drop`, unless a lock inside is still held.
    mapping: ManuallyDrop<Mapping>,
    value: NonNull<T>,
    name: Option<Name>,
    owns: PhantomData<T>,
}

// SAFETY: a segment lends out `&T` from any thread that has it, as a `Box<T>`
// would; `ShmSafe` requires T to be Send and Sync. Unmapping is not tied to a
// thread.
unsafe impl<T: ShmSafe> Send for Segment<T> {}
// SAFETY: sharing a segment shares `&T`, and T is Sync.
unsafe impl<T: ShmSafe> Sync for Segment<T> {}

impl<T: ShmSafe> Segment<T> {
    /// Creates the object `name` and puts `value` into it. Only this user may
    /// open it: see [`SegmentOptions::mode`].
    ///
    /// # Errors
    ///
    /// * [`Error::AlreadyExists`]: the name is taken, by whatever.
    /// * [`Error::NoSpace`]: there is no room for it in `/dev/shm`.
    /// * [`Error::InvalidName`], [`Error::PermissionDenied`],
    ///   [`Error::Unidentified`], [`Error::Os`].
    pub fn create(name: &str, value: T) -> Result<Self, Error> {
        SegmentOptions::new().create(name, value)
    }

    /// Opens the object `name`, which must exist and hold a `T` of the same
    /// layout.
    ///
    /// # Errors
    ///
    /// * [`Error::NotFound`]: nothing has that name.
    /// * [`Error::WrongOwner`], [`Error::TooPermissive`]: it may not be what it
    ///   seems.
    /// * [`Error::NotASegment`], [`Error::UnsupportedFormat`],
    ///   [`Error::Corrupt`], [`Error::LayoutMismatch`]: it is something else.
    /// * [`Error::ForeignPidNamespace`]: it belongs to another container.
    /// * [`Error::InvalidName`], [`Error::PermissionDenied`],
    ///   [`Error::Unidentified`], [`Error::Os`].
    pub fn open(name: &str) -> Result<Self, Error> {
        SegmentOptions::new().open(name)
    }

    /// Opens the object `name`, or creates it with the value of `init` if there
    /// is none. Of several processes that do this at once, one creates and the
    /// others open what it created.
    ///
    /// `init` is called only if there is no object at first sight. Its value is
    /// dropped if another process is faster.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`create`](Self::create), except for
    /// `NotFound` and `AlreadyExists`.
    pub fn open_or_create(name: &str, init: impl FnOnce() -> T) -> Result<Self, Error> {
        SegmentOptions::new().open_or_create(name, init)
    }

    /// Puts `value` into memory without a name, which only children forked
    /// from this process share.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], [`Error::Unidentified`], [`Error::Os`].
    pub fn anonymous(value: T) -> Result<Self, Error> {
        publish::anonymous(value)
    }

    /// Options for creating and opening: the mode, the expected owner.
    #[must_use]
    pub fn options() -> SegmentOptions {
        SegmentOptions::new()
    }

    /// The name, if it was created or opened by one.
    ///
    /// A function and not a method, as with `Box`: `T` may have a method of that
    /// name. Call it as `Segment::name(&segment)`.
    #[must_use]
    pub fn name(this: &Self) -> Option<&str> {
        this.name.as_ref().map(Name::as_str)
    }

    /// How many bytes of memory are mapped: the header and the value. Call it as
    /// `Segment::mapped_len(&segment)`.
    #[must_use]
    pub fn mapped_len(this: &Self) -> usize {
        this.mapping.len()
    }

    /// Wraps a mapping whose value has been placed.
    ///
    /// # Safety
    ///
    /// A placed `T` lies `offset` bytes into the mapping.
    unsafe fn from_mapping(mapping: Mapping, offset: usize, name: Option<Name>) -> Self {
        // SAFETY: by the caller's promise the offset is inside the mapping.
        let value = unsafe { mapping.base().add(offset) }.cast();
        Self {
            mapping: ManuallyDrop::new(mapping),
            value,
            name,
            owns: PhantomData,
        }
    }
}

impl<T: ShmSafe> Deref for Segment<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: a placed T lies there for as long as the segment lives, and
        // nobody has exclusive access to it.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ShmSafe> Drop for Segment<T> {
    fn drop(&mut self) {
        // No borrow of the value is left, so only a leaked guard can hold a
        // lock in it; no call to lock or unlock can still be running.
        //
        // SAFETY: the value is placed and still mapped.
        let must_stay = unsafe { place::is_held_here(self.value) };
        if !must_stay {
            // SAFETY: dropped here and nowhere else.
            unsafe { ManuallyDrop::drop(&mut self.mapping) };
        }
    }
}

impl<T: ShmSafe> fmt::Debug for Segment<T> {
    /// What it is, not what is in it: `T` need not be `Debug`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segment")
            .field("name", &Self::name(self))
            .field("type", &std::any::type_name::<T>())
            .field("mapped_len", &Self::mapped_len(self))
            .finish()
    }
}

/// Where the value lies in a segment, and how long the segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    /// Bytes from the start of the mapping to the value.
    value_offset: usize,
    /// Bytes of the whole object.
    total_len: std::num::NonZeroUsize,
}

impl Extent {
    /// The extent of a segment that holds a `T`.
    const fn of<T>() -> Self {
        const {
            assert!(
                align_of::<T>() <= MIN_PAGE,
                "a mapping is aligned to a page of 4096 bytes, and T asks for more"
            );
        }
        let value_offset = header::LEN.next_multiple_of(align_of::<T>());
        match std::num::NonZeroUsize::new(value_offset + size_of::<T>()) {
            Some(total_len) => Self {
                value_offset,
                total_len,
            },
            None => panic!("a header is not empty"),
        }
    }
}
