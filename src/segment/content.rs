//! What a segment can hold: a value of a fixed size, or one whose length is
//! chosen when it is created.

use std::mem::{align_of, size_of};
use std::ptr::NonNull;

use crate::os::mem::MIN_PAGE;
use crate::shm_safe::Fingerprint;
use crate::shm_safe::TypeProperties;
use crate::shm_safe::{FieldPath, ShmSafe, Visitor};

/// What a [`Segment`](crate::Segment) can hold:
///
/// * any `T` that is [`ShmSafe`];
/// * `[T]`, whose length is chosen when the segment is created, and learned from
///   it when it is opened;
/// * [`WithTail<H, [T]>`](WithTail), the same after a head of fixed size.
///
/// ```
/// use shm_sync::{Segment, SegmentOptions, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-content-{}", std::process::id());
/// # let name = name.as_str();
/// let slots = SegmentOptions::new().create_with_len::<[ShmMutex<u64>]>(name, 1000, |_| {})?;
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
    note = "a segment holds a `ShmSafe` type, `[T]` or `WithTail<H, [T]>`"
)]
pub unsafe trait SegmentContent: Send + Sync + 'static + sealed::Sealed {
    /// The structural hash; it does not cover the length.
    #[doc(hidden)]
    const FINGERPRINT: Fingerprint;
    #[doc(hidden)]
    const ALIGN: usize;
    #[doc(hidden)]
    const PROPERTIES: TypeProperties;

    /// The size in bytes with `len` elements; `None` if no memory is so large.
    #[doc(hidden)]
    fn size(len: u64) -> Option<u64>;

    /// The value at an address.
    #[doc(hidden)]
    fn at(base: NonNull<u8>, len: usize) -> NonNull<Self>;

    /// The number of elements, as it was given to [`at`](Self::at).
    #[doc(hidden)]
    fn len_of(value: NonNull<Self>) -> usize;

    /// Reports every sync object, as [`ShmSafe`] does.
    #[doc(hidden)]
    fn visit(len: usize, at: &FieldPath<'_>, report: &mut Visitor<'_>);
}

/// Contents whose length is chosen when they are created.
pub trait VariableLength: SegmentContent {}

/// A head of fixed size, and a tail whose length is chosen at creation.
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
#[repr(C)]
#[derive(Debug)]
pub struct WithTail<H, T: ?Sized> {
    /// What comes first.
    pub head: H,
    /// What follows it.
    pub tail: T,
}

mod sealed {
    pub trait Sealed {}
    impl<T: super::ShmSafe> Sealed for T {}
    impl<T: super::ShmSafe> Sealed for [T] {}
    impl<H: super::ShmSafe, T: super::ShmSafe> Sealed for super::WithTail<H, [T]> {}
}

// SAFETY: all is T's own.
unsafe impl<T: ShmSafe> SegmentContent for T {
    const FINGERPRINT: Fingerprint = T::FINGERPRINT;
    const ALIGN: usize = align_of::<T>();
    const PROPERTIES: TypeProperties = T::PROPERTIES;

    fn size(len: u64) -> Option<u64> {
        (len == 0).then_some(size_of::<T>() as u64)
    }

    fn at(base: NonNull<u8>, _len: usize) -> NonNull<T> {
        base.cast()
    }

    fn len_of(_value: NonNull<T>) -> usize {
        0
    }

    fn visit(_len: usize, at: &FieldPath<'_>, report: &mut Visitor<'_>) {
        <T as ShmSafe>::visit(at, report);
    }
}

// SAFETY: elements lie `size_of::<T>()` apart; each is visited once.
unsafe impl<T: ShmSafe> SegmentContent for [T] {
    const FINGERPRINT: Fingerprint = Fingerprint::of_parts(
        "slice",
        0,
        align_of::<T>(),
        &[("0", size_of::<T>(), T::FINGERPRINT)],
        &[],
    );
    const ALIGN: usize = align_of::<T>();
    const PROPERTIES: TypeProperties = T::PROPERTIES;

    fn size(len: u64) -> Option<u64> {
        bounded(len.checked_mul(size_of::<T>() as u64)?)
    }

    fn at(base: NonNull<u8>, len: usize) -> NonNull<[T]> {
        NonNull::slice_from_raw_parts(base.cast(), len)
    }

    fn len_of(value: NonNull<[T]>) -> usize {
        value.len()
    }

    fn visit(len: usize, at: &FieldPath<'_>, report: &mut Visitor<'_>) {
        visit_elements::<T>(len, at, report);
    }
}

impl<T: ShmSafe> VariableLength for [T] {}

impl<H, T> WithTail<H, [T]> {
    /// Bytes from the start to the first element.
    const TAIL_AT: usize = size_of::<H>().next_multiple_of(align_of::<T>());
    const MAX_ALIGN: usize = if align_of::<H>() > align_of::<T>() {
        align_of::<H>()
    } else {
        align_of::<T>()
    };
}

// SAFETY: repr(C) puts the tail at the next aligned place after the head, and
// rounds the size up to the alignment; the head and each element are visited once.
unsafe impl<H: ShmSafe, T: ShmSafe> SegmentContent for WithTail<H, [T]> {
    const FINGERPRINT: Fingerprint = Fingerprint::of_parts(
        "with tail",
        size_of::<T>(),
        Self::MAX_ALIGN,
        &[
            ("head", 0, H::FINGERPRINT),
            ("tail", Self::TAIL_AT, T::FINGERPRINT),
        ],
        &[],
    );
    const ALIGN: usize = Self::MAX_ALIGN;
    const PROPERTIES: TypeProperties = H::PROPERTIES.and(T::PROPERTIES);

    fn size(len: u64) -> Option<u64> {
        let tail = len.checked_mul(size_of::<T>() as u64)?;
        let unrounded = tail.checked_add(Self::TAIL_AT as u64)?;
        bounded(unrounded.checked_next_multiple_of(Self::MAX_ALIGN as u64)?)
    }

    fn at(base: NonNull<u8>, len: usize) -> NonNull<Self> {
        let whole = std::ptr::slice_from_raw_parts_mut(base.as_ptr().cast::<T>(), len);
        // The cast keeps the address, which is not null, and the length.
        NonNull::new(whole as *mut Self).unwrap_or_else(|| unreachable!("the base is not null"))
    }

    fn len_of(value: NonNull<Self>) -> usize {
        (value.as_ptr() as *mut [T]).len()
    }

    fn visit(len: usize, at: &FieldPath<'_>, report: &mut Visitor<'_>) {
        H::visit(&at.field("head", 0), report);
        visit_elements::<T>(len, &at.field("tail", Self::TAIL_AT), report);
    }
}

impl<H: ShmSafe, T: ShmSafe> VariableLength for WithTail<H, [T]> {}

/// Stops the compiler where a mapping can't be aligned as `T` wants to be.
pub(super) const fn assert_mappable<T: SegmentContent + ?Sized>() {
    assert!(
        T::ALIGN <= MIN_PAGE,
        "a mapping is aligned to a page of 4096 bytes, and this type asks for more"
    );
}

/// As for an array of that length.
fn visit_elements<T: ShmSafe>(len: usize, at: &FieldPath<'_>, report: &mut Visitor<'_>) {
    if T::SYNC_OBJECTS == 0 || len == 0 {
        return;
    }
    if at.is_pattern() {
        T::visit(&at.array(len, size_of::<T>()), report);
        return;
    }
    for index in 0..len {
        T::visit(&at.index(index, index * size_of::<T>()), report);
    }
}

/// Rust's own limit for the size of a value.
fn bounded(size: u64) -> Option<u64> {
    (size <= isize::MAX as u64).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn sizes_with_a_tail_are_those_of_the_compiler() {
        fn check<H: ShmSafe, T: ShmSafe, const N: usize>() {
            let expected = size_of::<WithTail<H, [T; N]>>();
            let size = <WithTail<H, [T]>>::size(N as u64);
            assert_eq!(size, Some(expected as u64));
            let memory = Box::new(std::mem::MaybeUninit::<WithTail<H, [T; N]>>::zeroed());
            let value = <WithTail<H, [T]>>::at(NonNull::from(&*memory).cast(), N);
            // SAFETY: the memory is there, and zeros are a value of the types
            // below.
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
    fn kinds_of_content_differ_in_their_fingerprints() {
        let all = [
            <u32 as SegmentContent>::FINGERPRINT,
            <[u32]>::FINGERPRINT,
            <[u64]>::FINGERPRINT,
            <[u32; 1] as SegmentContent>::FINGERPRINT,
            <WithTail<u32, [u32]>>::FINGERPRINT,
            <WithTail<u64, [u32]>>::FINGERPRINT,
            <WithTail<u32, [u64]>>::FINGERPRINT,
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(!all[i + 1..].contains(one), "number {i}");
        }
    }
}
