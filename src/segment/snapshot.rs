//! `Snapshot`: a private copy of a segment.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Deref;

use crate::error::Error;
use crate::init;
use crate::os::mem::Mapping;
use crate::os::mem::atomic_copy;
use crate::segment::backing::mapped::Mapped;
use crate::segment::backing::{Attachment, MappedValue};
use crate::segment::failure;
use crate::segment::memory_policy::MemoryPolicy;
use crate::segment::read_only::ReadOnlySegment;
use crate::shm_safe::{SegmentContent, TearFree, Visitor};

/// A private copy of a segment, to inspect and to change without an effect on the
/// original.
///
/// Other processes do not see changes of the copy, and later changes of the segment do
/// not appear in it. This process does not count as attached.
/// [`SegmentOptions::open_snapshot`](crate::SegmentOptions::open_snapshot) returns it:
/// see there for an example.
///
/// It is a private (copy-on-write) mapping of which all pages were copied at once. A
/// System V segment cannot be mapped so; its bytes are copied to private memory.
///
/// In the guide: [reading only](crate::guide#reading-only).
///
/// # Consistency
///
/// The pages are not of one instant, so data that was being changed may be half-changed
/// here. A lock that was held when its page was copied is unlocked here, and poisoned
/// as if its holder had died.
///
/// # Forks
///
/// A forked child has its own copy, in which all locks are unlocked. A lock that a
/// thread of the parent held during the fork is poisoned in the child, as if its holder
/// had died: the data is as that thread had left it at that moment. The parent's copy
/// does not change. C code in the child must not use the address of a lock before the
/// child has locked it through this crate.
pub struct Snapshot<T: SegmentContent + ?Sized> {
    value: MappedValue<T>,
}

// SAFETY: as for `Segment`: it lends `&T` and drops no T, and T is `Send` and `Sync`.
unsafe impl<T: SegmentContent + ?Sized> Send for Snapshot<T> {}
// SAFETY: as for `Segment`: it lends `&T` and drops no T, and T is `Send` and `Sync`.
unsafe impl<T: SegmentContent + ?Sized> Sync for Snapshot<T> {}

impl<T: SegmentContent + ?Sized> Snapshot<T> {
    /// Copies `original`.
    ///
    /// # Errors
    ///
    /// * [`Error::NoSpace`] or [`Error::Os`]: there is no memory for the copy.
    /// * [`Error::Unidentified`]: this process can't own locks, or can't detect forks.
    pub(super) fn of(original: &ReadOnlySegment<T>, memory: MemoryPolicy) -> Result<Self, Error>
    where
        T: TearFree,
    {
        let shared = original.attachment().mapping();
        let Some(total) = NonZeroUsize::new(shared.len()) else {
            return Err(Error::NotASegment { address: None });
        };
        let of_memory = |call| failure::memory_error(total.get(), call);
        let mapping = match original.attachment().file() {
            Some(file) => {
                let mapping = Mapping::private_of_file(file, total).map_err(of_memory("mmap"))?;
                // SAFETY: the mapping is new, so no thread of this process uses it, and
                // the file is not shorter: its length was checked against its header.
                unsafe { mapping.break_copy_on_write() };
                mapping
            }
            None => {
                let mapping = Mapping::private(total).map_err(of_memory("mmap"))?;
                let (from, to) = (shared.base().as_ptr(), mapping.base().as_ptr());
                // SAFETY: both are `total` bytes long, and no other thread or process
                // accesses the copy.
                unsafe { atomic_copy::copy_relaxed(from, to, total.get()) };
                mapping
            }
        };
        memory.apply_core_dump(&mapping)?;
        let offset = original.value().addr().get() - shared.base().addr().get();
        // SAFETY: the offset of the value is inside the original, and the copy is as
        // long.
        let base = unsafe { mapping.base().add(offset) };
        let value = T::at(base, T::len_of(original.value()));
        let locks = |visitor: &mut Visitor<'_>| T::for_each_sync_object(value, visitor);
        // SAFETY:
        // * `locks` visits the sync objects of the value at `base`, which is writable.
        // * No other thread or process uses the copy.
        // * It stays, because `MappedValue` leaves it mapped while a lock in it is
        //   held.
        unsafe { init::reinit_all(base, init::private_init_context()?, locks) }?;
        // SAFETY:
        // * Initialised: the copy is a mixture of values of T by words, which is a
        //   value of T because T is `TearFree`, and its locks are reinitialised.
        // * It stays mapped: the attachment owns the mapping of the value.
        let mapped = unsafe { Mapped::new(value, Attachment::Private(mapping)) };
        Ok(Self {
            value: MappedValue::new(mapped),
        })
    }
}

impl<T: SegmentContent + ?Sized> Deref for Snapshot<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.value()
    }
}

impl<T: SegmentContent + ?Sized> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("type", &std::any::type_name::<T>())
            .finish_non_exhaustive()
    }
}
