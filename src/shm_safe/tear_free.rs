//! `TearFree`: the marker of types that can be copied while they change.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::num::NonZero;
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16,
    AtomicU32, AtomicU64, AtomicUsize,
};

use crate::shm_safe::cache_padded::CachePadded;
use crate::shm_safe::content::WithTail;

/// Marks types of which a copy is valid even if it was made while another thread or
/// process changed the value.
///
/// [`peek`](crate::ReadOnly::peek) and
/// [`open_snapshot`](crate::SegmentOptions::open_snapshot) copy without the lock, so
/// they need it. `#[derive(ShmSafe)]` implements it for structs of such types, and for
/// enums without fields. An enum with fields is not tear-free: the copy could have the
/// discriminant of one value and the fields of another.
///
/// ```compile_fail,E0277
/// use shm_sync::{ReadOnly, ShmMutex, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(u8)]
/// enum Job {
///     None,
///     Some(bool),
/// }
///
/// fn look(job: ReadOnly<'_, ShmMutex<Job>>) -> Job {
///     job.peek()
/// }
/// ```
///
/// A way out is to keep the discriminant and the fields side by side:
///
/// ```
/// use shm_sync::{ReadOnly, ShmMutex, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Job {
///     is_some: bool,
///     value: bool,
/// }
///
/// fn look(job: ReadOnly<'_, ShmMutex<Job>>) -> Job {
///     job.peek()
/// }
/// ```
///
/// In the cookbook: [a read-only monitor](crate::guide::cookbook#a-read-only-monitor).
///
/// # Safety
///
/// Derive [`ShmSafe`](crate::ShmSafe) instead: implementing this by hand is not
/// supported. An implementation guarantees:
///
/// * A mixture of two values by aligned words of 8 bytes is a valid value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be copied while another process may change it",
    label = "an unlocked copy of `{Self}` may be no valid value",
    note = "an enum with fields (and a `NonZero` number of 128 bits) must be copied as a whole: \
            lock the mutex to read it",
    note = "for reading without the lock, use an enum without fields, and put the fields beside \
            it in a struct"
)]
pub unsafe trait TearFree {}

/// `TearFree`, for the bounds that the derive macro writes. The compiler does not
/// refuse a bound with a lifetime before it is needed, even if it is known to be false.
///
/// # Safety
///
/// * The type is `TearFree`.
#[doc(hidden)]
pub unsafe trait TearFreeField<'a> {}

// SAFETY: the type is `TearFree`.
unsafe impl<T: TearFree + ?Sized> TearFreeField<'_> for T {}

/// Implements `TearFree` for types of which every value lies in one word, or of which
/// any bytes are a value.
macro_rules! leaves {
    ($($leaf:ty),+ $(,)?) => {$(
        // SAFETY: a word of a mixture is a word of one of the values, or any bytes are
        // valid.
        unsafe impl TearFree for $leaf {}
    )+};
}

leaves!(
    u8,
    u16,
    u32,
    u64,
    u128,
    usize,
    i8,
    i16,
    i32,
    i64,
    i128,
    isize,
    f32,
    f64,
    (),
    bool,
    char,
);
leaves!(
    AtomicBool,
    AtomicU8,
    AtomicU16,
    AtomicU32,
    AtomicU64,
    AtomicUsize,
    AtomicI8,
    AtomicI16,
    AtomicI32,
    AtomicI64,
    AtomicIsize,
);
leaves!(
    NonZero<u8>,
    NonZero<u16>,
    NonZero<u32>,
    NonZero<u64>,
    NonZero<usize>,
    NonZero<i8>,
    NonZero<i16>,
    NonZero<i32>,
    NonZero<i64>,
    NonZero<isize>,
);

// SAFETY: a value has no bytes.
unsafe impl<T: ?Sized> TearFree for PhantomData<T> {}
// SAFETY: any bytes are a valid value.
unsafe impl<T> TearFree for MaybeUninit<T> {}
// SAFETY: a mixture of arrays consists of mixtures of their elements.
unsafe impl<T: TearFree, const N: usize> TearFree for [T; N] {}
// SAFETY: a mixture of slices of one length consists of mixtures of their elements.
unsafe impl<T: TearFree> TearFree for [T] {}
// SAFETY: a mixture consists of a mixture of the heads and one of the tails.
unsafe impl<H: TearFree, T: TearFree + ?Sized> TearFree for WithTail<H, T> {}
// SAFETY: the rest of a value is padding.
unsafe impl<T: TearFree> TearFree for CachePadded<T> {}

/// Implements `TearFree` for tuples.
macro_rules! tuples {
    ($(($($element:ident),+))+) => {$(
        // SAFETY: a mixture of tuples consists of mixtures of their elements.
        #[diagnostic::do_not_recommend]
        unsafe impl<$($element: TearFree),+> TearFree for ($($element,)+) {}
    )+};
}

tuples! {
    (A)
    (A, B)
    (A, B, C)
    (A, B, C, D)
    (A, B, C, D, E)
    (A, B, C, D, E, F)
    (A, B, C, D, E, F, G)
    (A, B, C, D, E, F, G, H)
    (A, B, C, D, E, F, G, H, I)
    (A, B, C, D, E, F, G, H, I, J)
    (A, B, C, D, E, F, G, H, I, J, K)
    (A, B, C, D, E, F, G, H, I, J, K, L)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm_safe::ShmSafe;

    /// The marker and the constant say the same of each type here.
    #[test]
    fn marker_agrees_with_properties() {
        fn check<T: TearFree + ShmSafe>() {
            let name = std::any::type_name::<T>();
            assert!(T::PROPERTIES.tear_free(), "{name}");
        }
        check::<u128>();
        check::<(bool, char, f64, ())>();
        check::<(AtomicBool, AtomicI64)>();
        check::<NonZero<usize>>();
        check::<PhantomData<NonZero<u128>>>();
        check::<MaybeUninit<NonZero<u128>>>();
        check::<CachePadded<[NonZero<u64>; 3]>>();
        assert!(
            !NonZero::<u128>::PROPERTIES.tear_free(),
            "not marked either"
        );
    }
}
