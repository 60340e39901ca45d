//! `ShmSafe` for the types of core.

use std::marker::PhantomData;
use std::mem::{MaybeUninit, offset_of};
use std::num::NonZero;
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16,
    AtomicU32, AtomicU64, AtomicUsize,
};

use super::{FieldPath, ShmSafe, Visitor};
use crate::shm_safe::Fingerprint;
use crate::shm_safe::TypeProperties;

/// Types without an inside, whose layout the language or the platform fixes, and
/// what holds of their values.
macro_rules! leaves {
    ($nature:expr => $($leaf:ty),+ $(,)?) => {$(
        // SAFETY: the name and the size fix the layout; the value is plain
        // bytes that mean the same everywhere on the platform; no sync objects.
        // What holds of the values is argued where the types are listed.
        unsafe impl ShmSafe for $leaf {
            const FINGERPRINT: Fingerprint =
                Fingerprint::of(stringify!($leaf), size_of::<$leaf>(), align_of::<$leaf>());
            const PROPERTIES: TypeProperties = $nature;
        }
    )+};
}

// Any bytes are a value.
leaves!(
    TypeProperties::POD =>
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, (),
);
// Not any bytes, but zero is one, and a value lies in one word.
leaves!(TypeProperties::POD.tear_free_if_word_sized(size_of::<Self>(), align_of::<Self>()) => bool, char);
// Made to change while shared; any bytes are a value, or it lies in one word.
leaves!(
    TypeProperties::POD.with_interior_mutability() =>
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
/// `NonZero` numbers, which are laid out as the number is.
macro_rules! non_zero {
    ($($number:ty),+ $(,)?) => {$(
        // SAFETY: the layout is that of the number, and the kind tells that zero is no
        // value; plain bytes that mean the same everywhere; no sync objects. A mixture
        // of two values may be zero, unless they lie in one word.
        unsafe impl ShmSafe for NonZero<$number> {
            const FINGERPRINT: Fingerprint =
                Fingerprint::of_parts("NonZero", size_of::<Self>(), align_of::<Self>(), &[("0", 0, <$number>::FINGERPRINT)], &[]);
            const PROPERTIES: TypeProperties = TypeProperties::POD
                .without_from_zeros()
                .tear_free_if_word_sized(size_of::<Self>(), align_of::<Self>());
        }
    )+};
}

non_zero!(
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize
);

// SAFETY: it has no bytes, so any two are interchangeable. The bounds are those
// that the supertraits ask for.
unsafe impl<T: ?Sized + Send + Sync + 'static> ShmSafe for PhantomData<T> {
    const FINGERPRINT: Fingerprint = Fingerprint::of("PhantomData", 0, 1);
    const PROPERTIES: TypeProperties = TypeProperties::POD;
}

// SAFETY: the layout is T's. Sync objects inside are not reported, so they stay
// inert: nobody can know whether the bytes are there. Any bytes are a value; what
// T can change while it is shared, it can change in here.
unsafe impl<T: ShmSafe> ShmSafe for MaybeUninit<T> {
    const FINGERPRINT: Fingerprint = Fingerprint::of_parts(
        "MaybeUninit",
        size_of::<Self>(),
        align_of::<Self>(),
        &[("0", 0, T::FINGERPRINT)],
        &[],
    );
    const PROPERTIES: TypeProperties = match T::PROPERTIES.immutable() {
        true => TypeProperties::POD,
        false => TypeProperties::POD.with_interior_mutability(),
    };
}

// SAFETY: the language fixes the layout of arrays; every element is visited at
// its offset, or one for all; what holds of each element holds of all.
unsafe impl<T: ShmSafe, const N: usize> ShmSafe for [T; N] {
    const FINGERPRINT: Fingerprint = Fingerprint::of_parts(
        "array",
        size_of::<Self>(),
        align_of::<Self>(),
        &[("0", N, T::FINGERPRINT)],
        &[],
    );
    const SYNC_OBJECTS: usize = N * T::SYNC_OBJECTS;
    const PROPERTIES: TypeProperties = T::PROPERTIES;

    fn visit(at: &FieldPath<'_>, report: &mut Visitor<'_>) {
        if Self::SYNC_OBJECTS == 0 {
            return;
        }
        if at.is_pattern() {
            return T::visit(&at.array(N, size_of::<T>()), report);
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
        // element; each is visited at its offset; what holds of every element
        // holds of all, and there is nothing else.
        #[diagnostic::do_not_recommend]
        unsafe impl<$($element: ShmSafe),+> ShmSafe for ($($element,)+) {
            const FINGERPRINT: Fingerprint = Fingerprint::of_parts(
                "tuple",
                size_of::<Self>(),
                align_of::<Self>(),
                &[$((
                    stringify!($index),
                    offset_of!(Self, $index),
                    $element::FINGERPRINT,
                )),+],
                &[],
            );
            const SYNC_OBJECTS: usize = 0 $(+ $element::SYNC_OBJECTS)+;
            const PROPERTIES: TypeProperties = TypeProperties::POD$(.and($element::PROPERTIES))+;

            fn visit(at: &FieldPath<'_>, report: &mut Visitor<'_>) {
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
    fn what_holds_of_the_leaves() {
        const PLAIN: TypeProperties = TypeProperties::POD;
        assert_eq!(u128::PROPERTIES, PLAIN);
        assert_eq!(bool::PROPERTIES, PLAIN);
        assert_eq!(char::PROPERTIES, PLAIN);
        assert_eq!(<()>::PROPERTIES, PLAIN);
        assert_eq!(AtomicBool::PROPERTIES, PLAIN.with_interior_mutability());
        assert_eq!(AtomicI64::PROPERTIES, PLAIN.with_interior_mutability());
        assert_eq!(NonZero::<u8>::PROPERTIES, PLAIN.without_from_zeros());
        assert_eq!(NonZero::<usize>::PROPERTIES, PLAIN.without_from_zeros());
        let long = PLAIN.without_from_zeros().without_tear_free();
        assert_eq!(NonZero::<i128>::PROPERTIES, long);
        assert_eq!(PhantomData::<AtomicU8>::PROPERTIES, PLAIN);
    }

    #[test]
    fn what_holds_of_the_parts_holds_of_the_whole() {
        type Odd = NonZero<u128>;
        assert_eq!(<[u64; 9]>::PROPERTIES, TypeProperties::POD);
        assert_eq!(<[Odd; 9]>::PROPERTIES, Odd::PROPERTIES);
        assert_eq!(<[Odd; 0]>::PROPERTIES, Odd::PROPERTIES);
        assert_eq!(<(u8, f32)>::PROPERTIES, TypeProperties::POD);
        assert_eq!(
            <(u8, AtomicU8)>::PROPERTIES,
            TypeProperties::POD.with_interior_mutability()
        );
        let none = TypeProperties::UNKNOWN;
        assert_eq!(<(AtomicU8, (Odd, u8))>::PROPERTIES, none);
        assert_eq!(MaybeUninit::<Odd>::PROPERTIES, TypeProperties::POD);
        let shared = TypeProperties::POD.with_interior_mutability();
        assert_eq!(MaybeUninit::<(AtomicU8, Odd)>::PROPERTIES, shared);
    }

    #[test]
    fn plain_data_has_no_sync_objects() {
        assert_eq!(<([u64; 9], (bool, char))>::SYNC_OBJECTS, 0);
        <([u64; 9], (bool, char))>::visit(&FieldPath::root(), &mut |at, _| panic!("found {at}"));
    }
}
