//! The first field in which the type of a segment differs from the expected one.
//!
//! It goes down one path, so its work is linear in the length of both type tables.

use crate::error::{Error, FieldLayout, FieldMismatch};
use crate::segment::format::header::{Header, truncated};
use crate::segment::format::type_table::{self, Field, MAX_LEN, Type, Types, Variant};
use crate::shm_safe::Description;

/// The most bytes that are shown of the name of a field.
const LONGEST_NAME: usize = 200;
/// The number of nested arrays of which an error shows the lengths.
const SHOWN_ARRAYS: u32 = 4;

/// Adds the first field that differs to a layout mismatch, if the type table of the
/// segment is readable. `of` describes the expected type.
///
/// `read` fills a buffer with the bytes of the object from an offset on, or returns
/// `false`. Any bytes will do.
pub(in crate::segment) fn explain(
    error: Error,
    header: &Header,
    of: &'static Description,
    read: &mut dyn FnMut(&mut [u8], u64) -> bool,
) -> Error {
    match error {
        Error::LayoutMismatch {
            address,
            expected,
            found,
            field: None,
        } if expected.abi == found.abi => {
            let field = first_difference(header, of, read).map(Box::new);
            Error::LayoutMismatch {
                address,
                expected,
                found,
                field,
            }
        }
        other => other,
    }
}

fn first_difference(
    header: &Header,
    of: &'static Description,
    read: &mut dyn FnMut(&mut [u8], u64) -> bool,
) -> Option<FieldMismatch> {
    let len = header.type_table_len as usize;
    if len == 0 || len > MAX_LEN {
        return None;
    }
    let mut bytes = vec![0; len];
    if !read(&mut bytes, header.type_table_offset()) {
        return None;
    }
    let found = type_table::parse(&bytes, header.layout.fingerprint).ok()?;
    let expected = type_table::parse(&type_table::of(of), of.fingerprint()).ok()?;
    Walk {
        expected: &expected,
        found: &found,
        path: String::new(),
        offsets: [0; 2],
    }
    .whole(expected.root(), found.root())
}

/// A walk into both types.
struct Walk<'a> {
    expected: &'a Types,
    found: &'a Types,
    path: String,
    /// The offsets of the part from the start of the value: the expected one, and that
    /// in the segment.
    offsets: [u64; 2],
}

impl<'a> Walk<'a> {
    /// Returns the first difference between two types at the same place.
    fn whole(mut self, expected: &'a Type, found: &'a Type) -> Option<FieldMismatch> {
        if expected.fingerprint == found.fingerprint {
            return None;
        }
        let is_inside = expected.kind == found.kind && !expected.fields.is_empty();
        if !is_inside {
            return Some(self.at(Some(expected), Some(found)));
        }
        if matches!(expected.kind.as_str(), "array" | "slice") {
            let (one, other) = (expected.fields.first()?, found.fields.first()?);
            if expected.kind == "array" && one.offset != other.offset {
                return Some(self.at(Some(expected), Some(found)));
            }
            self.path += "[]";
            let (one, other) = self.types(one, other)?;
            return self.whole(one, other);
        }
        if expected.kind == "CachePadded" {
            // The paths of locks leave it out as well.
            let (one, other) = self.types(expected.fields.first()?, found.fields.first()?)?;
            if one.fingerprint != other.fingerprint {
                return self.whole(one, other);
            }
        }
        if expected.kind == "enum" {
            // Its only field is the discriminant.
            if expected.fields.first()?.name != found.fields.first()?.name {
                return Some(self.at(Some(expected), Some(found)));
            }
        } else {
            match self.fields(&expected.fields, &found.fields)? {
                Step::Found(mismatch) => return Some(mismatch),
                Step::Into(walk, one, other) => return walk.whole(one, other),
                Step::Same(walk) => self = walk,
            }
        }
        let length = expected.variants.len().max(found.variants.len());
        for number in 0..length {
            let (one, other) = (expected.variants.get(number), found.variants.get(number));
            let (one, other) = match (one, other) {
                (Some(one), Some(other))
                    if one.name == other.name && one.discriminant == other.discriminant =>
                {
                    (one, other)
                }
                _ => return self.variant(one, other),
            };
            let end = self.path.len();
            self.path += "::";
            self.path += truncated(&one.name, LONGEST_NAME);
            match self.fields(&one.fields, &other.fields)? {
                Step::Found(mismatch) => return Some(mismatch),
                Step::Into(walk, one, other) => return walk.whole(one, other),
                Step::Same(walk) => self = walk,
            }
            self.path.truncate(end);
        }
        // Size or alignment.
        Some(self.at(Some(expected), Some(found)))
    }

    /// Compares the fields of two types or variants in their order.
    fn fields(self, expected: &'a [Field], found: &'a [Field]) -> Option<Step<'a>> {
        for number in 0..expected.len().max(found.len()) {
            let (one, other) = (expected.get(number), found.get(number));
            let (one, other) = match (one, other) {
                (Some(one), Some(other)) if one.name == other.name => (one, other),
                (Some(one), Some(other)) => {
                    let is_added = !has(expected, other) && has(found, one);
                    let is_missing = !has(found, one) && has(expected, other);
                    let one = Some(one).filter(|_| !is_added);
                    let other = Some(other).filter(|_| !is_missing);
                    return Some(Step::Found(self.field(one, other)?));
                }
                _ => return Some(Step::Found(self.field(one, other)?)),
            };
            if one.fingerprint == other.fingerprint && one.offset == other.offset {
                continue;
            }
            let (of_one, of_other) = self.types(one, other)?;
            let is_inside = one.fingerprint != other.fingerprint
                && of_one.kind == of_other.kind
                && !of_one.fields.is_empty();
            if is_inside {
                return Some(Step::Into(self.into_field(one, other), of_one, of_other));
            }
            return Some(Step::Found(self.field(Some(one), Some(other))?));
        }
        Some(Step::Same(self))
    }

    fn types(&self, expected: &Field, found: &Field) -> Option<(&'a Type, &'a Type)> {
        let expected = self.expected.type_of(expected)?;
        Some((expected, self.found.type_of(found)?))
    }

    fn into_field(mut self, expected: &Field, found: &Field) -> Self {
        self.path.push('.');
        self.path += truncated(&expected.name, LONGEST_NAME);
        let [one, other] = self.offsets;
        self.offsets = [
            one.saturating_add(expected.offset),
            other.saturating_add(found.offset),
        ];
        self
    }

    /// Returns the mismatch of two fields, one of which may be missing.
    fn field(mut self, expected: Option<&Field>, found: Option<&Field>) -> Option<FieldMismatch> {
        let named = expected.or(found)?;
        self.path.push('.');
        self.path += truncated(&named.name, LONGEST_NAME);
        let [one, other] = self.offsets;
        let layout = |types: &Types, field: &Field, start: u64| {
            let offset = start.saturating_add(field.offset);
            Some(layout_of(types, types.type_of(field)?, &field.name, offset))
        };
        Some(FieldMismatch {
            expected: expected.and_then(|field| layout(self.expected, field, one)),
            found: found.and_then(|field| layout(self.found, field, other)),
            path: self.path,
        })
    }

    /// Returns the mismatch of two types as a whole.
    fn at(self, expected: Option<&Type>, found: Option<&Type>) -> FieldMismatch {
        let name = self.path.rsplit('.').next().unwrap_or_default().to_owned();
        let [one, other] = self.offsets;
        FieldMismatch {
            expected: expected.map(|of| layout_of(self.expected, of, &name, one)),
            found: found.map(|of| layout_of(self.found, of, &name, other)),
            path: self.path,
        }
    }

    /// Returns the mismatch of two variants, one of which may be missing.
    fn variant(
        mut self,
        expected: Option<&Variant>,
        found: Option<&Variant>,
    ) -> Option<FieldMismatch> {
        self.path += "::";
        self.path += truncated(&expected.or(found)?.name, LONGEST_NAME);
        let layout = |variant: &Variant, offset| FieldLayout {
            name: truncated(&variant.name, LONGEST_NAME).to_owned(),
            type_name: format!("discriminant {}", variant.discriminant),
            offset,
            size: 0,
            align: 1,
        };
        let [one, other] = self.offsets;
        Some(FieldMismatch {
            expected: expected.map(|variant| layout(variant, one)),
            found: found.map(|variant| layout(variant, other)),
            path: self.path,
        })
    }
}

/// The result of a comparison of fields.
enum Step<'a> {
    Found(FieldMismatch),
    /// The types of two fields differ inside.
    Into(Walk<'a>, &'a Type, &'a Type),
    Same(Walk<'a>),
}

fn has(fields: &[Field], wanted: &Field) -> bool {
    fields.iter().any(|field| field.name == wanted.name)
}

fn layout_of(types: &Types, of: &Type, name: &str, offset: u64) -> FieldLayout {
    FieldLayout {
        name: truncated(name, LONGEST_NAME).to_owned(),
        type_name: label(types, of, SHOWN_ARRAYS),
        offset,
        size: of.size,
        align: of.align,
    }
}

/// Returns a text for a type: `u64`, `[u8; 4]`, `struct`.
fn label(types: &Types, of: &Type, arrays: u32) -> String {
    let element = of.fields.first().and_then(|field| {
        let inner = types.type_of(field)?;
        Some((field, inner))
    });
    match (of.kind.as_str(), element) {
        ("array" | "slice", Some(_)) if arrays == 0 => "[…]".to_owned(),
        ("array", Some((field, inner))) => {
            format!("[{}; {}]", label(types, inner, arrays - 1), field.offset)
        }
        ("slice", Some((_, inner))) => format!("[{}]", label(types, inner, arrays - 1)),
        ("NonZero" | "MaybeUninit", Some((_, inner))) if arrays > 0 => {
            format!("{}<{}>", of.kind, label(types, inner, arrays - 1))
        }
        ("enum", Some((field, _))) => {
            format!("enum({})", truncated(&field.name, LONGEST_NAME))
        }
        (kind, _) => truncated(kind, LONGEST_NAME).to_owned(),
    }
}
