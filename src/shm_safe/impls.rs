//! `ShmSafe` for the types of core.

use std::marker::PhantomData;
use std::mem::{MaybeUninit, offset_of};
use std::num::NonZero;
use std::sync::atomic::{
    AtomicBool, AtomicI8, AtomicI16, AtomicI32, AtomicI64, AtomicIsize, AtomicU8, AtomicU16,
    AtomicU32, AtomicU64, AtomicUsize,
};

use crate::shm_safe::description::Parts;
use crate::shm_safe::marker::ShmSafe;
use crate::shm_safe::properties::TypeProperties;
use crate::shm_safe::visit::{FieldPath, Visitor};

/// Implements `ShmSafe` for types without parts, with these properties.
macro_rules! leaves {
    ($properties:expr => $($leaf:ty),+ $(,)?) => {$(
        // SAFETY:
        // * The language or the platform fixes the layout.
        // * The name and the size in the fingerprint determine the valid values.
        // * The bytes have the same meaning in every process.
        // * There are no sync objects.
        // * The properties are argued where the types are listed.
        unsafe impl ShmSafe for $leaf {
            const PARTS: Parts = Parts::opaque(stringify!($leaf), size_of::<$leaf>(), align_of::<$leaf>());
            const PROPERTIES: TypeProperties = $properties;
        }
    )+};
}

// Any bytes are a valid value.
leaves!(
    TypeProperties::POD =>
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize, f32, f64, (),
);
// Some bytes are invalid. Zero is valid, and a value lies in one word, which no copy
// tears.
leaves!(
    TypeProperties::POD.tear_free_if_word_sized(size_of::<Self>(), align_of::<Self>()) =>
    bool,
    char,
);
// Any bytes are a valid value, or the value lies in one word (`AtomicBool`).
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

/// Implements `ShmSafe` for `NonZero` numbers, which have the layout of the number.
macro_rules! non_zero {
    ($($number:ty),+ $(,)?) => {$(
        // SAFETY:
        // * The layout is that of the number.
        // * The kind in the fingerprint shows that zero is invalid.
        // * The bytes have the same meaning in every process.
        // * There are no sync objects.
        // * Properties: zero is invalid, and a mixture of two values may be zero unless
        //   they lie in one word.
        unsafe impl ShmSafe for NonZero<$number> {
            const PARTS: Parts = Parts { kind: "NonZero", size: size_of::<Self>(), align: align_of::<Self>(), fields: &[("0", 0, <$number>::DESCRIPTION)], variants: &[] };
            const PROPERTIES: TypeProperties = TypeProperties::POD
                .without_from_zeros()
                .tear_free_if_word_sized(size_of::<Self>(), align_of::<Self>());
        }
    )+};
}

non_zero!(
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize
);

// SAFETY: a value has no bytes, so its layout, its meaning and its properties are those
// of the empty sequence, and it contains no sync object. The bounds are those of the
// supertraits.
unsafe impl<T: ?Sized + Send + Sync + 'static> ShmSafe for PhantomData<T> {
    const PARTS: Parts = Parts::opaque("PhantomData", 0, 1);
    const PROPERTIES: TypeProperties = TypeProperties::POD;
}

// SAFETY:
// * The layout is that of T, which the fingerprint covers.
// * The bytes have the same meaning in every process if they are a T.
// * There are no sync objects: those of a T inside stay uninitialised, because no
//   process knows whether there is one.
// * Properties: any bytes are a valid value. It is immutable if T is.
unsafe impl<T: ShmSafe> ShmSafe for MaybeUninit<T> {
    const PARTS: Parts = Parts {
        kind: "MaybeUninit",
        size: size_of::<Self>(),
        align: align_of::<Self>(),
        fields: &[("0", 0, T::DESCRIPTION)],
        variants: &[],
    };
    const PROPERTIES: TypeProperties = if T::PROPERTIES.immutable() {
        TypeProperties::POD
    } else {
        TypeProperties::POD.with_interior_mutability()
    };
}

// SAFETY:
// * The language fixes the layout of arrays.
// * The fingerprint covers the length and the element type.
// * The bytes of each element have the same meaning in every process.
// * Each element is visited at its offset; in a pattern, the element type once.
// * Properties: each that holds for every element holds for the array.
unsafe impl<T: ShmSafe, const N: usize> ShmSafe for [T; N] {
    const PARTS: Parts = Parts {
        kind: "array",
        size: size_of::<Self>(),
        align: align_of::<Self>(),
        fields: &[("0", N, T::DESCRIPTION)],
        variants: &[],
    };
    const SYNC_OBJECTS: usize = N * T::SYNC_OBJECTS;
    const PROPERTIES: TypeProperties = T::PROPERTIES;

    fn visit(path: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        visit_elements::<T>(N, path, visitor);
    }
}

/// Visits each of `len` elements of an array or a slice at `path`. In a pattern, visits
/// the element type once.
pub(crate) fn visit_elements<T: ShmSafe>(
    len: usize,
    path: &FieldPath<'_>,
    visitor: &mut Visitor<'_>,
) {
    if T::SYNC_OBJECTS == 0 || len == 0 {
        return;
    }
    if path.is_pattern() {
        T::visit(&path.array(len, size_of::<T>()), visitor);
        return;
    }
    for index in 0..len {
        T::visit(&path.index(index, index * size_of::<T>()), visitor);
    }
}

/// Implements `ShmSafe` for tuples. The language does not fix their layout, so the
/// fingerprint covers the offset of every element.
macro_rules! tuples {
    ($($(($element:ident, $index:tt)),+;)+) => {$(
        // SAFETY:
        // * The fingerprint covers the offset and the type of every element.
        // * The bytes of each element have the same meaning in every process.
        // * Each element is visited at its offset.
        // * Properties: each that holds for every element holds for the tuple, of which
        //   the rest is padding.
        #[diagnostic::do_not_recommend]
        unsafe impl<$($element: ShmSafe),+> ShmSafe for ($($element,)+) {
            const PARTS: Parts = Parts { kind: "tuple", size: size_of::<Self>(), align: align_of::<Self>(), fields: &[$((
                    stringify!($index),
                    offset_of!(Self, $index),
                    $element::DESCRIPTION,
                )),+], variants: &[] };
            const SYNC_OBJECTS: usize = 0 $(+ $element::SYNC_OBJECTS)+;
            const PROPERTIES: TypeProperties = TypeProperties::POD$(.and($element::PROPERTIES))+;

            fn visit(path: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
                $($element::visit(
                    &path.field(stringify!($index), offset_of!(Self, $index)),
                    visitor,
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
    use crate::shm_safe::sync_ops::{SyncKind, SyncOps};

    static THING: SyncOps = SyncOps {
        kind: SyncKind::Condvar,
        size: 4,
        init_zeroed: |_| {},
        init: |_, _| Ok(()),
        reinit: |_, _| Ok(()),
        is_held_by_this_process: |_| false,
    };

    struct Thing(#[allow(dead_code, reason = "only the layout matters")] u32);

    // SAFETY: the one field has the layout and the values of u32; the one sync object
    // begins at offset 0, and nothing operates on it.
    unsafe impl ShmSafe for Thing {
        const PARTS: Parts = u32::PARTS;
        const SYNC_OBJECTS: usize = 1;

        fn visit(path: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
            visitor(path, &THING);
        }
    }

    /// A sync object that a walk finds: path, offset and array dimensions.
    type Found = (String, usize, Vec<(u64, u64)>);

    fn walk<T: ShmSafe>(start: &FieldPath<'_>) -> Vec<Found> {
        let mut all = Vec::new();
        T::visit(start, &mut |path, _| {
            all.push((path.to_string(), path.offset(), path.array_dims()));
        });
        all
    }

    /// Returns the offsets of all objects that a pattern stands for.
    fn all_offsets((_, offset, dims): Found) -> Vec<usize> {
        let mut offsets = vec![offset];
        for (count, stride) in dims {
            let each = |&start: &usize| (0..count).map(move |i| start + (i * stride) as usize);
            offsets = offsets.iter().flat_map(each).collect();
        }
        offsets
    }

    #[test]
    fn smoke() {
        assert_ne!(u32::FINGERPRINT, i32::FINGERPRINT);
        assert_ne!(<[u8; 4]>::FINGERPRINT, <[u8; 5]>::FINGERPRINT);
        assert_ne!(<(u8, u32)>::FINGERPRINT, <(u32, u8)>::FINGERPRINT);
        assert_ne!(u64::FINGERPRINT, AtomicU64::FINGERPRINT);
        assert_ne!(MaybeUninit::<u8>::FINGERPRINT, u8::FINGERPRINT);
    }

    #[test]
    fn properties_of_leaves() {
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
    fn properties_of_parts_combine() {
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
        <([u64; 9], (bool, char))>::visit(&FieldPath::root(), &mut |path, _| {
            panic!("found {path}")
        });
    }

    #[test]
    fn patterns_stand_for_all_elements() {
        type Things = [[(u64, [Thing; 3]); 2]; 5];
        let pair = size_of::<(u64, [Thing; 3])>();
        let found = walk::<Things>(&FieldPath::pattern());
        let dims = [(5, 2 * pair), (2, pair), (3, 4)].map(|(n, m)| (n, m as u64));
        let offset = std::mem::offset_of!((u64, [Thing; 3]), 1);
        assert_eq!(found, [("[][].1[]".to_owned(), offset, dims.to_vec())]);

        let full = walk::<Things>(&FieldPath::root());
        assert_eq!(full.len(), Things::SYNC_OBJECTS);
        assert!(full.iter().all(|(_, _, dims)| dims.is_empty()));
        let offsets: Vec<usize> = full.into_iter().map(|(_, offset, _)| offset).collect();
        let patterns: Vec<usize> = found.into_iter().flat_map(all_offsets).collect();
        assert_eq!(patterns, offsets);
    }

    #[test]
    fn patterns_do_not_grow_with_array_lengths() {
        let found = walk::<(Thing, [[Thing; 1 << 20]; 1 << 20], u8)>(&FieldPath::pattern());
        let paths: Vec<&str> = found.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(paths, [".0", ".1[][]"]);
        assert_eq!(found[0].2, []);
    }

    #[test]
    fn empty_arrays_contain_nothing() {
        assert_eq!(walk::<[Thing; 0]>(&FieldPath::pattern()), []);
        assert_eq!(walk::<[[Thing; 3]; 0]>(&FieldPath::pattern()), []);
        assert_eq!(walk::<[[Thing; 0]; 3]>(&FieldPath::pattern()), []);
        assert_eq!(walk::<[[Thing; 0]; 3]>(&FieldPath::root()), []);
    }
}
