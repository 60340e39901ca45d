//! `SegmentContent`: values of a fixed size, and values whose length is chosen when the
//! segment is created.

use std::mem::{align_of, size_of};
use std::ptr::NonNull;

use crate::shm_safe::description::{Description, Parts};
use crate::shm_safe::fingerprint::Fingerprint;
use crate::shm_safe::impls::visit_elements;
use crate::shm_safe::marker::ShmSafe;
use crate::shm_safe::properties::TypeProperties;
use crate::shm_safe::visit::{FieldPath, Visitor};

/// Marks the types that a [`Segment`](crate::Segment) can contain:
///
/// * any `T` that is [`ShmSafe`];
/// * `[T]`: the creator chooses the length, and an opener reads it from the segment;
/// * [`WithTail<H, [T]>`](WithTail): a slice after a head of fixed size;
/// * [`ShmMutex<[T]>`](crate::ShmMutex#slices): one lock for a whole slice, or for a
///   head and a slice: `ShmMutex<WithTail<H, [T]>>`. Such a mutex may be a tail itself.
///
/// A [`ShmMutex`](crate::ShmMutex) can guard each of them that contains no lock.
///
/// ```
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-content-{}", std::process::id());
/// # let name = name.as_str();
/// let options = Segment::<[ShmMutex<u64>]>::options();
/// let slots = options.create_with_len(name, 1000, |_| {})?;
/// *slots[999].lock()? = 7;
///
/// let same = Segment::<[ShmMutex<u64>]>::open(name)?;
/// assert_eq!(same.len(), 1000);
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// # Safety
///
/// It can't be implemented outside this crate.
#[diagnostic::on_unimplemented(
    message = "a segment can't hold `{Self}`",
    label = "neither `ShmSafe`, nor a slice or a tail of what is",
    note = "a segment holds a `ShmSafe` type, `[T]`, `WithTail<H, [T]>` or a `ShmMutex` around \
            one of these"
)]
pub unsafe trait SegmentContent: Send + Sync + 'static + sealed::Sealed {
    /// The structural hash. It does not cover the length.
    #[doc(hidden)]
    const FINGERPRINT: Fingerprint = Self::DESCRIPTION.fingerprint();
    /// What the fingerprint hashes.
    #[doc(hidden)]
    const PARTS: Parts;
    /// The parts and their hash.
    #[doc(hidden)]
    const DESCRIPTION: &'static Description = &Description::new(Self::PARTS);
    #[doc(hidden)]
    const ALIGN: usize;
    #[doc(hidden)]
    const PROPERTIES: TypeProperties;
    /// Whether a value can contain sync objects.
    #[doc(hidden)]
    const HAS_SYNC_OBJECTS: bool;

    /// Returns the size in bytes with `len` elements, or `None` if it exceeds every
    /// memory.
    #[doc(hidden)]
    fn size(len: u64) -> Option<u64>;

    /// Returns the pointer to a value with `len` elements that begins at `base`.
    #[doc(hidden)]
    fn at(base: NonNull<u8>, len: usize) -> NonNull<Self>;

    /// Returns the number of elements that was passed to [`at`](Self::at).
    #[doc(hidden)]
    fn len_of(value: NonNull<Self>) -> usize;

    /// Passes every sync object of a value with `len` elements to `visitor`, as
    /// [`ShmSafe::visit`] does.
    #[doc(hidden)]
    fn visit(len: usize, path: &FieldPath<'_>, visitor: &mut Visitor<'_>);

    /// Passes every sync object of `value` to `visitor`. It reads no memory.
    #[doc(hidden)]
    fn for_each_sync_object(value: NonNull<Self>, visitor: &mut Visitor<'_>) {
        Self::visit(Self::len_of(value), &FieldPath::root(), visitor);
    }
}

/// Marks the contents whose length is chosen when the segment is created: `[T]`,
/// [`WithTail`] and [`ShmMutex`](crate::ShmMutex#slices) around one of these.
/// [`SegmentContent`] and [`WithTail`] have examples.
///
/// The metadata of a pointer to such a content is the length.
pub trait VariableLength: SegmentContent {}

/// A head of fixed size, and a tail whose length is chosen when the segment is created.
///
/// The tail is a slice or any other [`VariableLength`] type:
/// [`ShmMutex<[T]>`](crate::ShmMutex#slices) is a slice that one lock guards.
///
/// ```
/// use shm_sync::{SegmentOptions, ShmMutex, ShmSafe, WithTail};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Head {
///     used: ShmMutex<u64>,
/// }
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-tail-{}", std::process::id());
/// # let name = name.as_str();
/// type Table = WithTail<Head, [ShmMutex<u32>]>;
/// let table = SegmentOptions::new().create_with_len(name, 50, |table: &mut Table| {
///     table.head.used = ShmMutex::new(50);
///     table.tail[49] = ShmMutex::new(7);
/// })?;
/// assert_eq!(*table.tail[49].lock()?, 7);
/// assert_eq!(*table.head.used.lock()?, 50);
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
///
/// In the guide: [backings](crate::guide#backings).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct WithTail<H, T: ?Sized> {
    /// The part of fixed size, at offset 0.
    pub head: H,
    /// The part that contains the elements.
    pub tail: T,
}

pub(crate) mod sealed {
    /// Permits this crate alone to implement `SegmentContent`.
    pub trait Sealed {}
}

impl<T: ShmSafe> sealed::Sealed for T {}
impl<T: ShmSafe> sealed::Sealed for [T] {}
impl<H: ShmSafe, T: VariableLength + ?Sized> sealed::Sealed for WithTail<H, T> {}

// SAFETY: every item is that of `T: ShmSafe`, which gives the same guarantees.
unsafe impl<T: ShmSafe> SegmentContent for T {
    const PARTS: Parts = T::PARTS;
    const DESCRIPTION: &'static Description = T::DESCRIPTION;
    const ALIGN: usize = align_of::<T>();
    const PROPERTIES: TypeProperties = T::PROPERTIES;
    const HAS_SYNC_OBJECTS: bool = T::SYNC_OBJECTS != 0;

    fn size(len: u64) -> Option<u64> {
        (len == 0).then_some(size_of::<T>() as u64)
    }

    fn at(base: NonNull<u8>, _len: usize) -> NonNull<T> {
        base.cast()
    }

    fn len_of(_value: NonNull<T>) -> usize {
        0
    }

    fn visit(_len: usize, path: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        <T as ShmSafe>::visit(path, visitor);
    }
}

// SAFETY: the language fixes the layout of slices: the elements are `size_of::<T>()`
// bytes apart, and each is visited at its offset.
unsafe impl<T: ShmSafe> SegmentContent for [T] {
    const PARTS: Parts = Parts {
        kind: "slice",
        size: 0,
        align: align_of::<T>(),
        fields: &[("0", size_of::<T>(), T::DESCRIPTION)],
        variants: &[],
    };
    const ALIGN: usize = align_of::<T>();
    const PROPERTIES: TypeProperties = T::PROPERTIES;
    const HAS_SYNC_OBJECTS: bool = T::SYNC_OBJECTS != 0;

    fn size(len: u64) -> Option<u64> {
        bounded(len.checked_mul(size_of::<T>() as u64)?)
    }

    fn at(base: NonNull<u8>, len: usize) -> NonNull<[T]> {
        NonNull::slice_from_raw_parts(base.cast(), len)
    }

    fn len_of(value: NonNull<[T]>) -> usize {
        value.len()
    }

    fn visit(len: usize, path: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        visit_elements::<T>(len, path, visitor);
    }
}

impl<T: ShmSafe> VariableLength for [T] {}

impl<H, T: SegmentContent + ?Sized> WithTail<H, T> {
    /// The offset of the tail in bytes.
    const TAIL_AT: usize = size_of::<H>().next_multiple_of(T::ALIGN);
    const MAX_ALIGN: usize = if align_of::<H>() > T::ALIGN {
        align_of::<H>()
    } else {
        T::ALIGN
    };
}

// SAFETY: `repr(C)` places the tail at the next aligned offset after the head, and
// rounds the size up to the alignment. The head and the tail are visited at their
// offsets. The tail is the last field, so both pointers have the same metadata.
unsafe impl<H: ShmSafe, T: VariableLength + ?Sized> SegmentContent for WithTail<H, T> {
    const PARTS: Parts = Parts {
        kind: "with tail",
        size: 0,
        align: Self::MAX_ALIGN,
        fields: &[
            ("head", 0, H::DESCRIPTION),
            ("tail", Self::TAIL_AT, T::DESCRIPTION),
        ],
        variants: &[],
    };
    const ALIGN: usize = Self::MAX_ALIGN;
    const PROPERTIES: TypeProperties = H::PROPERTIES.and(T::PROPERTIES);
    const HAS_SYNC_OBJECTS: bool = H::SYNC_OBJECTS != 0 || T::HAS_SYNC_OBJECTS;

    fn size(len: u64) -> Option<u64> {
        size_after(Self::TAIL_AT, T::size(len)?, Self::MAX_ALIGN)
    }

    fn at(base: NonNull<u8>, len: usize) -> NonNull<Self> {
        let tail = T::at(base, len).as_ptr();
        // The cast keeps the address, which is not null, and the length.
        NonNull::new(tail as *mut Self).unwrap_or_else(|| unreachable!("the base is not null"))
    }

    fn len_of(value: NonNull<Self>) -> usize {
        let tail = NonNull::new(value.as_ptr() as *mut T);
        // The cast keeps the address, which is not null, and the length.
        T::len_of(tail.unwrap_or_else(|| unreachable!("the value is not null")))
    }

    fn visit(len: usize, path: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        H::visit(&path.field("head", 0), visitor);
        T::visit(len, &path.field("tail", Self::TAIL_AT), visitor);
    }
}

impl<H: ShmSafe, T: VariableLength + ?Sized> VariableLength for WithTail<H, T> {}

/// Returns the size of a `repr(C)` struct that ends with a field of `size` bytes at
/// `offset`. Returns `None` if it exceeds Rust's limit for the size of a value.
pub(crate) fn size_after(offset: usize, size: u64, align: usize) -> Option<u64> {
    let unrounded = size.checked_add(offset as u64)?;
    bounded(unrounded.checked_next_multiple_of(align as u64)?)
}

/// Returns `size` unless it exceeds Rust's limit for the size of a value.
fn bounded(size: u64) -> Option<u64> {
    (size <= isize::MAX as u64).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn smoke() {
        assert_eq!(<u32 as SegmentContent>::size(0), Some(4));
        assert_eq!(<u32 as SegmentContent>::size(1), None);
        assert_eq!(<[u32]>::size(3), Some(12));
        assert_eq!(<[u32]>::size(0), Some(0));
        assert_eq!(<[u32]>::size(u64::MAX), None);
        assert_eq!(<[u32]>::size(u64::MAX / 4), None);
    }

    #[test]
    fn tail_sizes_equal_the_compilers() {
        fn check<H: ShmSafe, T: ShmSafe, const N: usize>() {
            let expected = size_of::<WithTail<H, [T; N]>>();
            let size = <WithTail<H, [T]>>::size(N as u64);
            assert_eq!(size, Some(expected as u64));
            let memory = Box::new(std::mem::MaybeUninit::<WithTail<H, [T; N]>>::zeroed());
            let value = <WithTail<H, [T]>>::at(NonNull::from(&*memory).cast(), N);
            // SAFETY: the memory is allocated, aligned and zero, and zeros are a valid
            // value of the types below.
            let size = size_of_val(unsafe { value.as_ref() });
            assert_eq!(size, expected);
        }
        check::<u8, u64, 3>();
        check::<u64, u8, 3>();
        check::<[u8; 3], u16, 0>();
        check::<(), u32, 5>();
        check::<u64, (), 5>();
    }

    #[test]
    fn content_kinds_have_distinct_fingerprints() {
        let all = [
            <u32 as SegmentContent>::FINGERPRINT,
            <[u32]>::FINGERPRINT,
            <[u64]>::FINGERPRINT,
            <[u32; 1] as SegmentContent>::FINGERPRINT,
            <WithTail<u32, [u32]>>::FINGERPRINT,
            <WithTail<u64, [u32]>>::FINGERPRINT,
            <WithTail<u32, [u64]>>::FINGERPRINT,
            <WithTail<u32, WithTail<u32, [u32]>>>::FINGERPRINT,
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[i + 1..].contains(one), "number {i}");
        }
    }

    #[test]
    fn numbers_are_documented() {
        type Table = WithTail<u64, [u64; 3]>;
        documented::fields!("WithTail", Table { head, tail }, [("N", 3), ("T", 8)]);
    }
}
