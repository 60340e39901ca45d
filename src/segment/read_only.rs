//! `ReadOnlySegment`: attached, and unable to write.

use std::fmt;
use std::ptr::NonNull;

use crate::error::Error;
use crate::read_only::ReadOnly;
use crate::segment::address::Address;
use crate::segment::backing::Attachment;
use crate::segment::backing::mapped::Mapped;
use crate::segment::content::SegmentContent;

/// A segment that this process can only look at: its memory is mapped for reading,
/// and taking a lock does not compile. Made by
/// [`Segment::open_read_only`](crate::Segment::open_read_only).
///
/// This process counts as attached.
pub struct ReadOnlySegment<T: SegmentContent + ?Sized> {
    value: NonNull<T>,
    attachment: Attachment,
    address: Address,
}

// SAFETY: it lends out no more than `&T` would, and T is Sync.
unsafe impl<T: SegmentContent + ?Sized> Send for ReadOnlySegment<T> {}
// SAFETY: as above.
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

    /// What is in it.
    #[must_use]
    pub fn view(&self) -> ReadOnly<'_, T> {
        // SAFETY: a placed T lies there for as long as this lives. Those who write
        // to it do so by way of `&T`.
        unsafe { ReadOnly::new(self.value) }
    }

    /// What it is called.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Returns whether the address still leads to this segment: see
    /// [`Segment::is_linked`](crate::Segment::is_linked).
    ///
    /// # Errors
    ///
    /// As [`Segment::is_linked`](crate::Segment::is_linked).
    pub fn is_linked(&self) -> Result<bool, Error> {
        self.attachment.is_linked()
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
            .field("address", &self.address.as_str())
            .field("type", &std::any::type_name::<T>())
            .finish_non_exhaustive()
    }
}
