//! The first field that differs, in `Error::LayoutMismatch`.

use std::fs::File;
use std::os::unix::fs::FileExt;

use shm_sync::{
    CachePadded, Error, FieldMismatch, Segment, SegmentContent, ShmMutex, ShmSafe, ShmSemaphore,
    WithTail,
};

/// Declares a type.
macro_rules! declare {
    ($(#[$attribute:meta])* $kind:ident $name:ident $($rest:tt)*) => {
        #[derive(ShmSafe)]
        $(#[$attribute])*
        #[allow(dead_code, reason = "only the layout matters")]
        pub(super) $kind $name $($rest)*
    };
}

/// Returns the first difference between two declarations of the type `Here`.
macro_rules! difference {
    ([$($expected:tt)*] [$($found:tt)*]) => {{
        mod expected {
            use super::*;
            declare!($($expected)*);
        }
        mod found {
            use super::*;
            declare!($($found)*);
        }
        between::<[expected::Here], [found::Here]>()
    }};
}

fn open<Expected, Found>(found: &Segment<Found>) -> Error
where
    Expected: SegmentContent + ?Sized,
    Found: SegmentContent + ?Sized,
{
    let file = Segment::as_fd(found).expect("it is a memfd");
    let file = file.try_clone_to_owned().expect("there are descriptors");
    match Segment::<Expected>::options().from_fd(file) {
        Ok(_) => panic!("the types differ"),
        Err(error) => error,
    }
}

fn created<Found>() -> Segment<Found>
where
    Found: shm_sync::VariableLength + ?Sized,
{
    let options = Segment::<Found>::options();
    let created = options.anonymous_with_len("found", 3, |_| {});
    created.expect("there is memory")
}

fn between<Expected, Found>() -> FieldMismatch
where
    Expected: SegmentContent + ?Sized,
    Found: shm_sync::VariableLength + ?Sized,
{
    field_of(open::<Expected, Found>(&created::<Found>()))
}

#[track_caller]
fn field_of(error: Error) -> FieldMismatch {
    let text = error.to_string();
    match error {
        Error::LayoutMismatch {
            field: Some(field), ..
        } => {
            assert!(text.contains(&field.to_string()), "{text}");
            *field
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check(found: &FieldMismatch, expected: &str) {
    assert_eq!(found.to_string(), expected);
}

#[test]
fn smoke() {
    let found = Segment::anonymous((1_u8, ShmMutex::new(0_u32))).expect("there is memory");
    let error = open::<(u8, ShmMutex<u64>), _>(&found);
    let text = error.to_string();
    let field = field_of(error);
    let offset = std::mem::offset_of!((u8, ShmMutex<u32>), 1) + size_of::<ShmMutex<()>>();
    let shown = format!("field `.1.data`: expected u64 at offset {offset}, found u32 at offset ");
    assert!(field.to_string().starts_with(&shown), "{field}");
    assert!(text.contains("let all programs use one type"), "{text}");
    let expected = field.expected.expect("both have the field");
    assert_eq!(
        (expected.name.as_str(), expected.size, expected.align),
        ("data", 8, 8)
    );
}

#[test]
fn each_difference_is_named() {
    check(
        &difference!([#[repr(C)] struct Here { a: u8, b: u32 }] [#[repr(C)] struct Here { a: u8, b: i32 }]),
        "field `[].b`: expected u32 at offset 4, found i32 at offset 4",
    );
    check(
        &difference!([#[repr(C)] struct Here { a: u8, b: u32 }] [#[repr(C)] struct Here { a: u8, c: u32 }]),
        "field `[].b`: expected u32 at offset 4, found `c`, u32 at offset 4",
    );
    check(
        &difference!([#[repr(C)] struct Here { a: u8, b: u8 }] [#[repr(C)] struct Here { b: u8, a: u8 }]),
        "field `[].a`: expected u8 at offset 0, found `b`, u8 at offset 0",
    );
    check(
        &difference!([#[repr(C)] struct Here { a: u8, b: u8 }] [#[repr(C)] struct Here { a: u8, x: u8, b: u8 }]),
        "field `[].x`: expected no such field, found u8 at offset 1",
    );
    check(
        &difference!([#[repr(C)] struct Here { a: u8, x: u8, b: u8 }] [#[repr(C)] struct Here { a: u8, b: u8 }]),
        "field `[].x`: expected u8 at offset 1, found no such field",
    );
    check(
        &difference!([#[repr(C)] struct Here { a: u8 }] [#[repr(C)] struct Here { a: u8, b: u8 }]),
        "field `[].b`: expected no such field, found u8 at offset 1",
    );
    check(
        &difference!([#[repr(C)] struct Here { a: u8, b: u8 }] [#[repr(C)] struct Here { a: u8 }]),
        "field `[].b`: expected u8 at offset 1, found no such field",
    );
    check(
        &difference!([#[repr(C)] struct Here { a: [u8; 3] }] [#[repr(C)] struct Here { a: [u8; 4] }]),
        "field `[].a`: expected [u8; 3] at offset 0, found [u8; 4] at offset 0",
    );
    check(
        &difference!([#[repr(C)] struct Here { x: u8, a: [(u8, u8); 3] }] [#[repr(C)] struct Here { x: u8, a: [(u8, i8); 3] }]),
        "field `[].a[].1`: expected u8 at offset 2, found i8 at offset 2",
    );
    check(
        &difference!([#[repr(C)] struct Here { a: u8 }] [#[repr(C, align(8))] struct Here { a: u8 }]),
        "field `[]`: expected struct of 1 bytes, aligned to 1, found 8 bytes, aligned to 8",
    );
    check(
        &difference!([#[repr(C)] struct Here { a: ShmSemaphore<2> }] [#[repr(C)] struct Here { a: ShmSemaphore<3> }]),
        &format!(
            "field `[].a`: expected ShmSemaphore of {} bytes, aligned to 64, \
             found {} bytes, aligned to 64",
            size_of::<ShmSemaphore<2>>(),
            size_of::<ShmSemaphore<3>>(),
        ),
    );
    check(
        &difference!([#[repr(C)] struct Here { a: CachePadded<u8>, b: u8 }] [#[repr(C)] struct Here { a: u8, b: u8 }]),
        "field `[].a`: expected CachePadded at offset 0, found u8 at offset 0",
    );
    check(
        &difference!([#[repr(u8)] enum Here { A, B }] [#[repr(u16)] enum Here { A, B }]),
        "field `[]`: expected enum(u8) at offset 0, found enum(u16) at offset 0",
    );
    check(
        &difference!([#[repr(u8)] enum Here { A, B }] [#[repr(u8)] enum Here { A, B = 7 }]),
        "field `[]::B`: expected discriminant 1 at offset 0, found discriminant 7 at offset 0",
    );
    check(
        &difference!([#[repr(u8)] enum Here { A, B }] [#[repr(u8)] enum Here { A, C }]),
        "field `[]::B`: expected discriminant 1 at offset 0, \
         found `C`, discriminant 1 at offset 0",
    );
    check(
        &difference!([#[repr(u8)] enum Here { A, B }] [#[repr(u8)] enum Here { A }]),
        "field `[]::B`: expected discriminant 1 at offset 0, found no such field",
    );
    check(
        &difference!([#[repr(u8)] enum Here { A, B { x: u8, y: u16 } }] [#[repr(u8)] enum Here { A, B { x: u8, y: i16 } }]),
        "field `[]::B.y`: expected u16 at offset 2, found i16 at offset 2",
    );
}

#[test]
fn different_kinds_are_named() {
    let found = Segment::anonymous([0_u8; 4]).expect("there is memory");
    let text = "the value: expected [u8] at offset 0, found [u8; 4] at offset 0";
    check(&field_of(open::<[u8], _>(&found)), text);
    let text = "the value: expected u32 at offset 0, found [u8; 4] at offset 0";
    check(&field_of(open::<u32, _>(&found)), text);
    let text = "field `.tail[]`: expected u8 at offset 4, found u16 at offset 4";
    check(
        &between::<WithTail<u32, [u8]>, WithTail<u32, [u16]>>(),
        text,
    );
}

/// A table that another user has changed explains nothing, and the error stays.
#[test]
fn unreadable_table_is_ignored() {
    let found = Segment::anonymous((1_u8, 2_u32)).expect("there is memory");
    let file = Segment::as_fd(&found).expect("it is a memfd");
    let file = File::from(file.try_clone_to_owned().expect("there are descriptors"));
    let error = open::<(u8, u64), _>(&found);
    assert!(field_of(error).path.starts_with(".1"));
    let table = 448; // there is no lock
    for at in [table, table + 8, table + 16, table + 24] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).expect("it is there");
        file.write_all_at(&[byte[0] ^ 1], at)
            .expect("it is writable");
        let error = open::<(u8, u64), _>(&found);
        let text = error.to_string();
        let Error::LayoutMismatch { field: None, .. } = error else {
            panic!("{error:?}");
        };
        assert!(!text.contains("field"), "{text}");
        file.write_all_at(&byte, at).expect("it is writable");
    }
}
