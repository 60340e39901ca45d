//! `ShmSafe` for the types of core.

use std::marker::PhantomData;
use std::mem::{MaybeUninit, offset_of};
use std::num::NonZero;
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16,
    AtomicU32, AtomicU64, AtomicUsize,
};

use super::{Place, Report, ShmSafe};
use crate::fingerprint::Fingerprint;

/// Types without an inside, whose layout the language or the platform fixes.
macro_rules! leaves {
    ($($leaf:ty),+ $(,)?) => {$(
        // SAFETY: the name and the size fix the layout; the value is plain
        // bytes that mean the same everywhere on the platform; no sync objects.
        unsafe impl ShmSafe for $leaf {
            const FINGERPRINT: Fingerprint =
                Fingerprint::of(stringify!($leaf), size_of::<$leaf>(), align_of::<$leaf>());
        }
    )+};
}

leaves!(
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize
);
leaves!(f32, f64, bool, char, ());
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
    AtomicIsize
);
leaves!(
    NonZero<u8>,
    NonZero<u16>,
    NonZero<u32>,
    NonZero<u64>,
    NonZero<u128>,
    NonZero<usize>,
    NonZero<i8>,
    NonZero<i16>,
    NonZero<i32>,
    NonZero<i64>,
    NonZero<i128>,
    NonZero<isize>
);

// SAFETY: it has no bytes, so any two are interchangeable. The bounds are those
// that the supertraits ask for.
unsafe impl<T: ?Sized + Send + Sync + 'static> ShmSafe for PhantomData<T> {
    const FINGERPRINT: Fingerprint = Fingerprint::of("PhantomData", 0, 1);
}

// SAFETY: the layout is T's. Sync objects inside are not reported, so they stay
// inert: nobody can know whether the bytes are there.
unsafe impl<T: ShmSafe> ShmSafe for MaybeUninit<T> {
    const FINGERPRINT: Fingerprint = Fingerprint::of(
        "MaybeUninit",
        size_of::<Self>(),
        align_of::<Self>(),
    )
    .field("0", 0, T::FINGERPRINT);
}

// SAFETY: the language fixes the layout of arrays; every element is visited at
// its offset.
unsafe impl<T: ShmSafe, const N: usize> ShmSafe for [T; N] {
    const FINGERPRINT: Fingerprint = Fingerprint::of(
        "array",
        size_of::<Self>(),
        align_of::<Self>(),
    )
    .field("0", N, T::FINGERPRINT);
    const SYNC_OBJECTS: usize = N * T::SYNC_OBJECTS;

    fn visit(at: &Place<'_>, report: &mut Report<'_>) {
        if T::SYNC_OBJECTS == 0 {
            return;
        }
        for index in 0..N {
            T::visit(&at.index(index, index * size_of::<T>()), report);
        }
    }
}

/// Tuples. The language does not fix their layout, so it is the fingerprint,
/// with the offset of every element, that makes two programs agree.
macro_rules! tuples {
    ($($(($element:ident, $index:tt)),+;)+) => {$(
        // SAFETY: the fingerprint covers the offset and the type of every
        // element; each is visited at its offset.
        #[diagnostic::do_not_recommend]
        unsafe impl<$($element: ShmSafe),+> ShmSafe for ($($element,)+) {
            const FINGERPRINT: Fingerprint =
                Fingerprint::of("tuple", size_of::<Self>(), align_of::<Self>())
                    $(.field(
                        stringify!($index),
                        offset_of!(Self, $index),
                        $element::FINGERPRINT,
                    ))+;
            const SYNC_OBJECTS: usize = 0 $(+ $element::SYNC_OBJECTS)+;

            fn visit(at: &Place<'_>, report: &mut Report<'_>) {
                $($element::visit(
                    &at.field(stringify!($index), offset_of!(Self, $index)),
                    report,
                );)+
            }
        }
    )+};
}

tuples! {
    (A, 0);
    (A, 0), (B, 1);
    (A, 0), (B, 1), (C, 2);
    (A, 0), (B, 1), (C, 2), (D, 3);
    (A, 0), (B, 1), (C, 2), (D, 3), (E, 4);
    (A, 0), (B, 1), (C, 2), (D, 3), (E, 4), (F, 5);
    (A, 0), (B, 1), (C, 2), (D, 3), (E, 4), (F, 5), (G, 6);
    (A, 0), (B, 1), (C, 2), (D, 3), (E, 4), (F, 5), (G, 6), (H, 7);
    (A, 0), (B, 1), (C, 2), (D, 3), (E, 4), (F, 5), (G, 6), (H, 7), (I, 8);
    (A, 0), (B, 1), (C, 2), (D, 3), (E, 4), (F, 5), (G, 6), (H, 7), (I, 8), (J, 9);
    (A, 0), (B, 1), (C, 2), (D, 3), (E, 4), (F, 5), (G, 6), (H, 7), (I, 8), (J, 9), (K, 10);
    (A, 0), (B, 1), (C, 2), (D, 3), (E, 4), (F, 5), (G, 6), (H, 7), (I, 8), (J, 9), (K, 10),
        (L, 11);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        assert_ne!(u32::FINGERPRINT, i32::FINGERPRINT);
        assert_ne!(<[u8; 4]>::FINGERPRINT, <[u8; 5]>::FINGERPRINT);
        assert_ne!(<(u8, u32)>::FINGERPRINT, <(u32, u8)>::FINGERPRINT);
        assert_ne!(u64::FINGERPRINT, AtomicU64::FINGERPRINT);
        assert_ne!(MaybeUninit::<u8>::FINGERPRINT, u8::FINGERPRINT);
    }

    #[test]
    fn plain_data_has_no_sync_objects() {
        assert_eq!(<([u64; 9], (bool, char))>::SYNC_OBJECTS, 0);
        <([u64; 9], (bool, char))>::visit(&Place::root(), &mut |at, _| panic!("found {at}"));
    }
}
