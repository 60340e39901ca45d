//! The ways to share memory, and the value in that memory.
//!
//! Each backing has a type that attaches this process to a segment and owns its
//! mapping. [`Attachment`] covers all of them.

pub(in crate::segment) mod attachment;
pub(in crate::segment) mod file;
pub(in crate::segment) mod mapped;
pub(in crate::segment) mod memfd;
pub(in crate::segment) mod sysv;
pub(in crate::segment) mod temporary;

use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use crate::error::Error;
use crate::init;
use crate::os::mem::sysv_shm::Id;
use crate::os::mem::{Access, Mapping};
use crate::robust;
use crate::segment::failure;
use crate::shm_safe::{SegmentContent, Visitor};
use file::FileAttachment;
use mapped::Mapped;
use memfd::MemfdAttachment;
use sysv::SysvAttachment;

/// The attachment of this process to a segment of any backing. It owns the mapping.
#[derive(Debug)]
pub(in crate::segment) enum Attachment {
    File(FileAttachment),
    Memfd(MemfdAttachment),
    SystemV(SysvAttachment),
    /// A private copy: see [`Snapshot`](crate::Snapshot).
    Private(Mapping),
}

impl Attachment {
    pub(in crate::segment) fn mapping(&self) -> &Mapping {
        match self {
            Self::File(attachment) => attachment.mapping(),
            Self::Memfd(attachment) => attachment.mapping(),
            Self::SystemV(attachment) => attachment.mapping(),
            Self::Private(mapping) => mapping,
        }
    }

    /// Returns the attachment to a POSIX object or a file.
    pub(in crate::segment) fn as_file(&self) -> Option<&FileAttachment> {
        match self {
            Self::File(attachment) => Some(attachment),
            _ => None,
        }
    }

    /// Returns the descriptor of an anonymous segment, unless the program has closed
    /// it.
    pub(in crate::segment) fn memfd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Memfd(attachment) => attachment.file(),
            _ => None,
        }
    }

    /// Returns the descriptor of the mapped file, if there is one and the program has
    /// not closed it.
    pub(in crate::segment) fn file(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::File(attachment) => attachment.file(),
            Self::Memfd(attachment) => attachment.file(),
            Self::SystemV(_) | Self::Private(_) => None,
        }
    }

    /// Returns the device and the inode number of the mapped file, if there is one.
    pub(in crate::segment) fn identity(&self) -> Option<(u64, u64)> {
        match self {
            Self::File(attachment) => Some(attachment.identity()),
            Self::Memfd(attachment) => Some(attachment.identity()),
            Self::SystemV(_) | Self::Private(_) => None,
        }
    }

    /// Returns whether a name, a key or an id still leads to the segment.
    pub(in crate::segment) fn is_linked(&self) -> Result<bool, Error> {
        match self {
            Self::File(attachment) => attachment.is_linked(),
            Self::SystemV(attachment) => attachment.is_linked(),
            Self::Memfd(_) | Self::Private(_) => Ok(false),
        }
    }

    /// Detaches. `drop` does the same, and ignores errors.
    ///
    /// # Errors
    ///
    /// The memory is not unmapped, or this process is the last user of a segment whose
    /// name it should remove, and can't.
    pub(in crate::segment) fn close(self) -> Result<(), Error> {
        match self {
            Self::File(attachment) => attachment.close(),
            Self::Memfd(attachment) => attachment.close(),
            Self::SystemV(attachment) => attachment.close(),
            Self::Private(mapping) => mapping.unmap().map_err(failure::call_error("munmap")),
        }
    }

    pub(in crate::segment) fn system_v_id(&self) -> Option<Id> {
        match self {
            Self::SystemV(attachment) => Some(attachment.id()),
            _ => None,
        }
    }
}

impl From<FileAttachment> for Attachment {
    fn from(attachment: FileAttachment) -> Self {
        Self::File(attachment)
    }
}

impl From<MemfdAttachment> for Attachment {
    fn from(attachment: MemfdAttachment) -> Self {
        Self::Memfd(attachment)
    }
}

impl From<SysvAttachment> for Attachment {
    fn from(attachment: SysvAttachment) -> Self {
        Self::SystemV(attachment)
    }
}

/// An initialised `T` in writable memory, which is unmapped on drop.
#[derive(Debug)]
pub(in crate::segment) struct MappedValue<T: SegmentContent + ?Sized> {
    value: NonNull<T>,
    /// It stays while this process holds a lock in the value.
    attachment: ManuallyDrop<Attachment>,
}

impl<T: SegmentContent + ?Sized> MappedValue<T> {
    /// Takes ownership of a mapped value.
    ///
    /// # Panics
    ///
    /// If the memory is read-only.
    pub(in crate::segment) fn new(mapped: Mapped<T, Attachment>) -> Self {
        let access = mapped.attachment().mapping().access();
        assert_eq!(
            access,
            Access::ReadWrite,
            "a value that is lent can be locked"
        );
        let (value, attachment) = mapped.into_parts();
        Self {
            value,
            attachment: ManuallyDrop::new(attachment),
        }
    }

    pub(in crate::segment) fn attachment(&self) -> &Attachment {
        &self.attachment
    }

    #[inline]
    pub(in crate::segment) fn value(&self) -> &T {
        // SAFETY:
        // * Initialised and mapped for as long as `self` exists: `Mapped` proves that,
        //   and only `take_attachment` takes the attachment.
        // * No `&mut T` exists: this type lends shared references only, and other
        //   processes write through the interior mutability of `T`.
        unsafe { self.value.as_ref() }
    }
}

impl<T: SegmentContent + ?Sized> MappedValue<T> {
    /// Detaches, unless this process holds a lock in the value. `drop` does the same,
    /// and ignores errors.
    ///
    /// # Errors
    ///
    /// [`Error::LocksHeld`], and those of [`Attachment::close`].
    pub(in crate::segment) fn close(self) -> Result<(), Error> {
        let mut value = ManuallyDrop::new(self);
        // SAFETY: `drop` does not run, and `value` is not used afterwards.
        match unsafe { value.take_attachment() } {
            Some(attachment) => attachment.close(),
            None => Err(Error::LocksHeld { address: None }),
        }
    }

    /// Returns whether a thread of this process holds a lock in the value. No borrow of
    /// the value is left. So no call to lock or unlock is running, and only a leaked
    /// guard can hold a lock.
    fn is_held_by_this_process(&self) -> bool {
        /// Values of this size may have so many locks that the lists of the threads
        /// are faster to read.
        const MANY_LOCKS: usize = 1 << 20;

        // Not `T::HAS_SYNC_OBJECTS` as well: the compiler would show that constant in
        // its messages about wrong types.
        let bytes = size_of_val(self.value());
        if bytes >= MANY_LOCKS {
            let base = self.value.addr().get();
            if let Some(held) = robust::is_any_held_within(&(base..base + bytes)) {
                return held;
            }
        }
        let locks = |visitor: &mut Visitor<'_>| T::for_each_sync_object(self.value, visitor);
        // SAFETY:
        // * `locks` visits the locks of the value, which is mapped for as long as
        //   `self` exists.
        // * They are initialised: `Mapped` proves that.
        unsafe { init::any_held(self.value.cast(), locks) }
    }

    /// Takes the attachment out. Returns `None`, and leaves the memory mapped until the
    /// process ends, if this process holds a lock in the value.
    ///
    /// # Safety
    ///
    /// * It is called once.
    /// * `self` is not used afterwards.
    unsafe fn take_attachment(&mut self) -> Option<Attachment> {
        if self.is_held_by_this_process() {
            return None;
        }
        // SAFETY: this is the only place that takes it, and `self` is not used
        // afterwards: the clauses of this function.
        Some(unsafe { ManuallyDrop::take(&mut self.attachment) })
    }
}

impl<T: SegmentContent + ?Sized> Drop for MappedValue<T> {
    fn drop(&mut self) {
        // SAFETY: `close` prevents `drop`, so this is the only call, and the value is
        // not used afterwards.
        drop(unsafe { self.take_attachment() });
    }
}
