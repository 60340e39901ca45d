//! `ReadOnlySegment`: an attached segment whose memory is mapped for reading.

use std::fmt;
use std::ptr::NonNull;

use crate::error::Error;
use crate::read_only::ReadOnly;
use crate::segment::address::Address;
use crate::segment::backing::Attachment;
use crate::segment::backing::mapped::Mapped;
use crate::shm_safe::SegmentContent;

/// A segment that this process can only read.
///
/// Its memory is mapped for reading, and locking does not compile.
/// [`Segment::open_read_only`](crate::Segment::open_read_only) returns it. This process
/// counts as attached.
///
/// ```
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-read-only-{}", std::process::id());
/// # let name = name.as_str();
/// # let _jobs = Segment::create(name, ShmMutex::new(5_u64))?;
/// let jobs = Segment::<ShmMutex<u64>>::open_read_only(name)?;
/// println!("{}: {} jobs", jobs.address(), jobs.view().peek());
/// assert!(jobs.is_linked()?);
/// jobs.close()?;
/// # shm_sync::unlink(name)
/// # }
/// ```
///
/// [`ReadOnly`] says what a view can read.
///
/// In the cookbook: [a read-only monitor](crate::guide::cookbook#a-read-only-monitor).
pub struct ReadOnlySegment<T: SegmentContent + ?Sized> {
    value: NonNull<T>,
    attachment: Attachment,
    address: Address,
}

// SAFETY: it lends no more than `&T` would, and T is `Sync`.
unsafe impl<T: SegmentContent + ?Sized> Send for ReadOnlySegment<T> {}
// SAFETY: it lends no more than `&T` would, and T is `Sync`.
unsafe impl<T: SegmentContent + ?Sized> Sync for ReadOnlySegment<T> {}

impl<T: SegmentContent + ?Sized> ReadOnlySegment<T> {
    pub(super) fn new(mapped: Mapped<T, Attachment>, address: Address) -> Self {
        let (value, attachment) = mapped.into_parts();
        Self {
            value,
            attachment,
            address,
        }
    }

    /// Returns a view of the value.
    #[must_use]
    pub fn view(&self) -> ReadOnly<'_, T> {
        // SAFETY:
        // * An initialised T, mapped for as long as the attachment, which `self` owns.
        // * Other threads and processes write to it only as `&T` permits.
        unsafe { ReadOnly::new(self.value) }
    }

    /// Returns the address by which it was opened.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns whether the address still leads to this segment: see
    /// [`Segment::is_linked`](crate::Segment::is_linked).
    ///
    /// # Errors
    ///
    /// [`Error::PermissionDenied`] if this process may not search a directory of the
    /// path, [`Error::Os`] if another system call fails.
    pub fn is_linked(&self) -> Result<bool, Error> {
        let is_linked = self.attachment.is_linked();
        is_linked.map_err(|error| error.at(&self.address))
    }

    /// Unmaps the segment, as `drop` does, and returns the error that `drop` ignores:
    /// see [`Segment::close`](crate::Segment::close).
    ///
    /// # Errors
    ///
    /// * [`Error::PermissionDenied`], [`Error::Blocked`]: this process is the last user
    ///   of a [`Removal::UntilLastDetach`] segment, and can't remove its name. A
    ///   process that may only read never can.
    /// * [`Error::Os`]: the kernel refused to unmap the memory, or another call that
    ///   the removal needs.
    ///
    /// [`Removal::UntilLastDetach`]: crate::Removal::UntilLastDetach
    pub fn close(self) -> Result<(), Error> {
        let closed = self.attachment.close();
        closed.map_err(|error| error.at(&self.address))
    }

    pub(super) fn value(&self) -> NonNull<T> {
        self.value
    }

    pub(super) fn attachment(&self) -> &Attachment {
        &self.attachment
    }
}

impl<T: SegmentContent + ?Sized> fmt::Debug for ReadOnlySegment<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadOnlySegment")
            .field("address", &self.address.as_os_str())
            .field("type", &std::any::type_name::<T>())
            .finish_non_exhaustive()
    }
}
