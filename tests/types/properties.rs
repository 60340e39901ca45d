//! The properties of types, as the derive macro and the primitives compute them.
//! Patterns that visit one element of an array instead of all.

#![allow(dead_code, reason = "only the layout matters")]

use std::marker::PhantomData;
use std::mem::{MaybeUninit, offset_of};
use std::num::NonZero;
use std::sync::atomic::AtomicU32;

use shm_sync::__private::{FieldPath, SyncKind, TypeProperties};
use shm_sync::{
    PthreadCondvar, ShmCondvar, ShmMutex, ShmOption, ShmSafe, ShmString, ShmVec, TearFree,
};

const PLAIN: TypeProperties = TypeProperties::POD;

/// `IS_TEAR_FREE` is the inherent constant if the type is `TearFree`, because inherent
/// items have priority. Otherwise it is the constant of `NotTearFree`.
struct Probe<T>(PhantomData<T>);

impl<T: TearFree> Probe<T> {
    const IS_TEAR_FREE: bool = true;
}

trait NotTearFree {
    const IS_TEAR_FREE: bool = false;
}

impl<T> NotTearFree for Probe<T> {}

/// Returns the properties of the type that is declared in the brackets.
macro_rules! properties {
    ([$(#[$attribute:meta])* $kind:ident $name:ident $($rest:tt)*]) => {{
        #[derive(ShmSafe)]
        $(#[$attribute])*
        $kind $name $($rest)*

        const PROPERTIES: TypeProperties = $name::PROPERTIES;
        let is_tear_free = Probe::<$name>::IS_TEAR_FREE;
        assert_eq!(is_tear_free, PROPERTIES.tear_free(), "TearFree and PROPERTIES agree");
        PROPERTIES
    }};
}

/// Checks that each type has these properties.
macro_rules! assert_properties {
    ($expected:expr; $($declaration:tt)+) => {$(
        assert_eq!(properties!($declaration), $expected, "{}", stringify!($declaration));
    )+};
}

#[test]
fn smoke() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Jobs {
        pending: ShmMutex<u64>,
        changed: ShmCondvar,
        workers: [ShmMutex<u8>; 3],
    }

    assert_eq!(Jobs::PROPERTIES, PLAIN.with_interior_mutability());
    let mut found = Vec::new();
    Jobs::visit(&FieldPath::pattern(), &mut |at, object| {
        found.push((at.to_string(), at.offset(), object.kind));
    });
    let expected = [
        (".pending", 0, SyncKind::Mutex),
        (".changed", offset_of!(Jobs, changed), SyncKind::Condvar),
        (".workers[]", offset_of!(Jobs, workers), SyncKind::Mutex),
    ];
    let expected = expected.map(|(path, offset, kind)| (path.to_owned(), offset, kind));
    assert_eq!(found, expected);
}

// --- Properties -------------------------------------------------------------

#[test]
fn struct_has_properties_of_all_fields() {
    assert_properties! { PLAIN;
        [#[repr(C)] struct S;]
        [#[repr(C)] struct S {}]
        [#[repr(C)] struct S { a: u8, b: u64, c: [f32; 3], d: (bool, char) }]
        [#[repr(transparent)] struct S(u128);]
        [#[repr(C)] struct S(u8, MaybeUninit<NonZero<u128>>);]
        [#[repr(C, align(64))] struct S { a: u8, of: PhantomData<AtomicU32> }]
        [#[repr(C)] struct S { a: ShmString<9>, b: ShmVec<u64, 3>, c: ShmOption<bool> }]
    }
    assert_properties! { PLAIN.without_from_zeros();
        [#[repr(C)] struct S { a: u8, b: NonZero<u64> }]
        [#[repr(C)] struct S { a: u8, b: [NonZero<u8>; 9] }]
    }
    assert_properties! { PLAIN.with_interior_mutability();
        [#[repr(C)] struct S { a: u8, b: AtomicU32 }]
        [#[repr(C)] struct S(MaybeUninit<AtomicU32>);]
    }
    assert_properties! { PLAIN.without_from_zeros().without_tear_free();
        [#[repr(C)] struct S { a: u8, b: (u8, NonZero<u128>) }]
    }
    assert_properties! { TypeProperties::UNKNOWN;
        [#[repr(C)] struct S { a: AtomicU32, b: NonZero<i128> }]
    }
}

#[test]
fn fieldless_enum_is_zero_if_a_discriminant_is() {
    assert_properties! { PLAIN;
        [#[repr(u8)] enum E { A }]
        [#[repr(u64)] enum E { A, B, C }]
        [#[repr(i8)] enum E { A = -2, B, C }]
        [#[repr(i64)] enum E { A = i64::MIN, B = 3 - 3, C = i64::MAX }]
        [#[repr(u16)] enum E { A = 9, B = 0, C }]
        [#[repr(u8)] enum E { A {}, B() }]
        [#[repr(u8, align(16))] enum E { A, B }]
    }
    assert_properties! { PLAIN.without_from_zeros();
        [#[repr(u8)] enum E { A = 1, B, C }]
        [#[repr(i8)] enum E { A = -3, B, C }]
        [#[repr(i8)] enum E { A = -1 }]
        [#[repr(u64)] enum E { A = 1 << 32, B = u64::MAX }]
        [#[repr(i32)] enum E { A = -1, B = 1 }]
    }
}

#[test]
fn enum_with_fields_can_tear() {
    assert_properties! { PLAIN.without_tear_free();
        [#[repr(u8)] enum E { A, B(u8) }]
        [#[repr(u8)] enum E { A(u8) }]
        [#[repr(u8)] enum E { A(u8, u64), B { c: NonZero<u8> } }]
        [#[repr(C, i8)] enum E { A(NonZero<u8>) = -1, B(u8), C = 5 }]
    }
    assert_properties! { PLAIN.without_from_zeros().without_tear_free();
        [#[repr(u8)] enum E { A(NonZero<u8>), B(u8) }]
        [#[repr(u8)] enum E { A(u8, (u8, NonZero<u8>)), B }]
        [#[repr(u8)] enum E { A(u8) = 1, B }]
        [#[repr(i8)] enum E { A = -1, B(NonZero<u8>), C(u8) }]
    }
    assert_properties! { PLAIN.without_tear_free().with_interior_mutability();
        [#[repr(u8)] enum E { A, B(u8, AtomicU32) }]
        [#[repr(C, u8)] enum E { A(AtomicU32), B }]
    }
    assert_properties! { TypeProperties::UNKNOWN;
        [#[repr(u8)] enum E { A(NonZero<u8>), B(AtomicU32) }]
    }
}

#[test]
fn enum_discriminant_constants_are_evaluated() {
    const BASE: i16 = -1;
    const fn twice(n: i16) -> i16 {
        2 * n
    }
    assert_properties! { PLAIN;
        [#[repr(i16)] enum E { A = BASE, B }]
        [#[repr(i16)] enum E { A = twice(BASE), B, C }]
    }
    assert_properties! { PLAIN.without_from_zeros();
        [#[repr(i16)] enum E { A = BASE, B = 1 }]
        [#[repr(i16)] enum E { A = twice(BASE), B }]
    }
}

/// User functions and fields may have names that the derived code uses.
#[test]
fn derived_names_do_not_capture_user_names() {
    const fn nature() -> u8 {
        0
    }
    const fn discriminant() -> u8 {
        7
    }
    assert_properties! { PLAIN;
        [#[repr(u8)] enum E { A = nature(), B = discriminant() }]
        [#[repr(u8)] enum E { A = discriminant(), B = nature() }]
        [#[repr(C)] struct S { nature: u8, discriminant: u8 }]
    }
    assert_properties! { PLAIN.without_from_zeros();
        [#[repr(u8)] enum E { A = discriminant(), B }]
    }
}

#[test]
fn generic_has_properties_of_its_arguments() {
    #[derive(ShmSafe)]
    #[repr(C)]
    struct Slots<T, const N: usize> {
        next: u32,
        slots: [T; N],
    }

    #[derive(ShmSafe)]
    #[repr(u8)]
    enum Choice<T, U> {
        Something(T),
        Else { this: U },
    }

    type Odd = NonZero<u128>;

    assert_eq!(Slots::<u64, 4>::PROPERTIES, PLAIN);
    assert_eq!(
        Slots::<AtomicU32, 4>::PROPERTIES,
        PLAIN.with_interior_mutability()
    );
    assert_eq!(Slots::<Odd, 4>::PROPERTIES, Odd::PROPERTIES);
    assert_eq!(
        Slots::<ShmMutex<Odd>, 4>::PROPERTIES,
        TypeProperties::UNKNOWN
    );

    let plain = PLAIN.without_tear_free();
    assert_eq!(Choice::<u8, Odd>::PROPERTIES, plain);
    assert_eq!(Choice::<Odd, u8>::PROPERTIES, plain.without_from_zeros());
    assert_eq!(
        Choice::<u8, AtomicU32>::PROPERTIES,
        plain.with_interior_mutability()
    );
    assert_eq!(Choice::<Choice<u8, Odd>, ()>::PROPERTIES, plain);
    assert_eq!(
        Slots::<Choice<Odd, ()>, 4>::PROPERTIES,
        plain.without_from_zeros()
    );
}

#[test]
fn mutex_is_mutable_and_else_like_its_data() {
    assert_eq!(ShmMutex::<()>::PROPERTIES, PLAIN.with_interior_mutability());
    assert_eq!(
        ShmMutex::<AtomicU32>::PROPERTIES,
        PLAIN.with_interior_mutability()
    );
    let inhabited = ShmMutex::<NonZero<u8>>::PROPERTIES;
    assert_eq!(
        inhabited,
        PLAIN.without_from_zeros().with_interior_mutability()
    );
    assert_eq!(
        ShmMutex::<NonZero<u128>>::PROPERTIES,
        TypeProperties::UNKNOWN
    );
    assert_eq!(ShmCondvar::PROPERTIES, PLAIN.with_interior_mutability());
    assert_eq!(PthreadCondvar::PROPERTIES, PLAIN.with_interior_mutability());
    assert_eq!(
        MaybeUninit::<ShmMutex<NonZero<u8>>>::PROPERTIES,
        PLAIN.with_interior_mutability()
    );
}

// --- Patterns ---------------------------------------------------------------

#[derive(ShmSafe)]
#[repr(C)]
struct Worker {
    id: u8,
    lock: ShmMutex<[u16; 3]>,
    none: [ShmCondvar; 0],
}

#[derive(ShmSafe)]
#[repr(C)]
struct Pool {
    workers: [Worker; 4],
    changed: ShmCondvar,
    signals: ([[PthreadCondvar; 2]; 3], u8),
}

/// Returns the path, the offset, the size and the kind of each object.
fn visit_all<T: ShmSafe>(start: &FieldPath<'_>) -> Vec<(String, usize, usize, SyncKind)> {
    let mut all = Vec::new();
    T::visit(start, &mut |at, object| {
        all.push((at.to_string(), at.offset(), object.size, object.kind));
    });
    all
}

/// A pattern reports the objects of a full visit, of each array only those of its first
/// element.
#[test]
fn pattern_equals_visit_of_first_elements() {
    let mut full = visit_all::<([Pool; 2], Pool)>(&FieldPath::root());
    full.retain(|(path, ..)| !path.contains("[1") && !path.contains("[2") && !path.contains("[3"));
    for (path, ..) in &mut full {
        *path = path.replace("[0]", "[]");
    }
    let pattern = visit_all::<([Pool; 2], Pool)>(&FieldPath::pattern());
    assert_eq!(pattern, full);
    let paths: Vec<&str> = pattern.iter().map(|(path, ..)| path.as_str()).collect();
    let expected = [
        ".0[].workers[].lock",
        ".0[].changed",
        ".0[].signals.0[][]",
        ".1.workers[].lock",
        ".1.changed",
        ".1.signals.0[][]",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn visit_reports_size_of_each_type() {
    let sizes = |(_, _, size, kind)| (kind, size);
    let all: Vec<_> = visit_all::<Pool>(&FieldPath::pattern())
        .into_iter()
        .map(sizes)
        .collect();
    let expected = [
        (SyncKind::Mutex, size_of::<ShmMutex<()>>()),
        (SyncKind::Condvar, size_of::<ShmCondvar>()),
        (SyncKind::PthreadCondvar, size_of::<PthreadCondvar>()),
    ];
    assert_eq!(all, expected);
}
