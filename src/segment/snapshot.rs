//! `Snapshot`: a private copy of a segment.

use std::fmt;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;

use crate::error::Error;
use crate::init;
use crate::os::mem::Mapping;
use crate::os::mem::atomic_copy;
use crate::segment::backing::mapped::Mapped;
use crate::segment::backing::{Attachment, MappedValue};
use crate::segment::content::SegmentContent;
use crate::segment::failure;
use crate::segment::memory_policy::MemoryPolicy;
use crate::segment::read_only::ReadOnlySegment;
use crate::shm_safe::{FieldPath, Visitor};

/// A private copy of a segment, to look into and to change without disturbing
/// anybody: what is written here, others never see, and what others write after it
/// was made is not seen here. Made by
/// [`SegmentOptions::open_snapshot`](crate::SegmentOptions::open_snapshot).
///
/// It is a private (copy-on-write) mapping of which every page was copied at once;
/// of a System V segment, which can't be mapped so, a plain copy. The pages are not
/// of one instant: what was being changed meanwhile may be half-changed here. A
/// lock that was held when its page was copied is free here, and poisoned as if
/// its holder had died: its data is in doubt.
///
/// It does not count as attached.
///
/// # Forks
///
/// A forked child has a copy of its own, in which all locks are free. One that a thread
/// of the parent held at that moment is poisoned, as if its holder had died: the child's
/// data is what that thread had made of it so far. In the parent nothing changes.
/// C code in the child must not use the address of a lock that the child has not locked
/// through this crate before.
pub struct Snapshot<T: SegmentContent + ?Sized> {
    placed: MappedValue<T>,
}

// SAFETY: as for `Segment`.
unsafe impl<T: SegmentContent + ?Sized> Send for Snapshot<T> {}
// SAFETY: as for `Segment`.
unsafe impl<T: SegmentContent + ?Sized> Sync for Snapshot<T> {}

impl<T: SegmentContent + ?Sized> Snapshot<T> {
    pub(super) fn of(original: &ReadOnlySegment<T>, memory: MemoryPolicy) -> Result<Self, Error> {
        const {
            assert!(
                T::PROPERTIES.tear_free(),
                "a copy of this type that is made while it changes might be no value of it: \
                 it contains an enum with fields, or a NonZero number of 128 bits"
            );
        }
        let shared = original.attachment().mapping();
        let Some(total) = NonZeroUsize::new(shared.len()) else {
            return Err(Error::NotASegment);
        };
        let of_memory = |call| failure::memory_error(total.get(), call);
        let mapping = match original.attachment().file() {
            Some(file) => {
                let mapping = Mapping::private_of_file(file, total).map_err(of_memory("mmap"))?;
                // SAFETY: the mapping is new, so nobody in this process uses it;
                // the file is as long, as its header was checked to say.
                unsafe { mapping.break_copy_on_write() };
                mapping
            }
            None => {
                let mapping = Mapping::private(total).map_err(of_memory("mmap"))?;
                let (from, to) = (shared.base().as_ptr(), mapping.base().as_ptr());
                // SAFETY: both are `total` bytes long, and the copy is ours alone.
                unsafe { atomic_copy::copy_relaxed(from, to, total.get()) };
                mapping
            }
        };
        memory.apply_core_dump(&mapping)?;
        let offset = original.value().addr().get() - shared.base().addr().get();
        // SAFETY: the value lies in the copy where it lies in the original.
        let base = unsafe { mapping.base().add(offset) };
        let len = T::len_of(original.value());
        let walk = |report: &mut Visitor<'_>| T::visit(len, &FieldPath::root(), report);
        // SAFETY: a mixture of values of T, word by word, is a value of T; nobody
        // else uses this copy.
        unsafe { init::reinit_all(base, init::private_init_context()?, walk) }?;
        let value: NonNull<T> = T::at(base, len);
        // SAFETY:
        // * Initialised: a mixture of values is a value, and its locks are reinitialised.
        // * It stays mapped: the attachment owns the mapping of the value.
        let mapped = unsafe { Mapped::new(value, Attachment::Private(mapping)) };
        let placed = MappedValue::new(mapped);
        Ok(Self { placed })
    }
}

impl<T: SegmentContent + ?Sized> Deref for Snapshot<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.placed.value()
    }
}

impl<T: SegmentContent + ?Sized> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("type", &std::any::type_name::<T>())
            .finish_non_exhaustive()
    }
}
