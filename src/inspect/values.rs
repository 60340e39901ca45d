//! Reads the value of a segment by its type table.
//!
//! The bytes may change meanwhile, and a stranger may have written them and the table.
//! A walk goes down at most as deeply as a table may be nested, and visits a bounded
//! number of parts.

use std::fmt;

use super::reader::{Opened, Reader};
use crate::error::Error;
use crate::printable::printable;
use crate::segment::internals::int_of;
use crate::segment::{Field, Type, Types, Variant};
use crate::sync::raw_view::{MADE, MADE_AT, VERSION_AT, VERSION_SLOTS};

/// The maximum number of elements of an array that are read.
const MAX_ELEMENTS: u64 = 16;
/// The maximum number of bytes of a text that are read.
const MAX_TEXT: u64 = 256;
/// The maximum number of bytes of an opaque part that are read.
const MAX_BYTES: u64 = 32;
/// The number of parts that are visited for each value that is returned, because a part
/// may contain none.
const PARTS_PER_VALUE: usize = 64;
/// The most bytes that are shown of the name of a field.
const LONGEST_NAME: usize = 200;
/// The most bytes that are shown of a path.
const LONGEST_PATH: usize = 1024;
/// The maximum length of all paths together in bytes.
const MAX_PATHS: usize = 16 << 20;

/// The values in a segment, as [`values`](super::values) has found them.
///
/// They are not a snapshot: the processes go on meanwhile.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Values {
    /// The values of the fields, in the order of the types.
    pub fields: Vec<FieldValue>,
    /// Whether there are more than the limit, or than 16 MiB of paths can describe.
    pub is_cut: bool,
}

/// The value of a field.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FieldValue {
    /// The path of the field, such as `.workers[3].state`. It is empty for the value as
    /// a whole. The fields of a variant follow its name: `.state::Busy.since`. It can
    /// contain any character: see [`printable`](super::printable). It ends with `…` if
    /// it is longer than 1024 bytes.
    pub path: String,
    /// The offset in bytes from the start of the value.
    pub offset: u64,
    /// The value.
    pub value: Value,
}

/// A value that was read without a lock. `Display` escapes characters that control a
/// terminal.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Value {
    /// An unsigned number.
    Unsigned(
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "crate::segment::internals::unsigned")
        )]
        u128,
    ),
    /// A signed number.
    Signed(
        #[cfg_attr(
            feature = "serde",
            serde(serialize_with = "crate::segment::internals::signed")
        )]
        i128,
    ),
    /// An `f32`.
    Float(f32),
    /// An `f64`.
    Double(f64),
    /// A `bool`.
    Bool(bool),
    /// A `char`.
    Char(char),
    /// A text, or its beginning. Invalid UTF-8 is replaced.
    Text {
        /// The text.
        text: String,
        /// The number of bytes that were left out.
        omitted: u64,
    },
    /// The variant of an enum.
    Variant(String),
    /// The elements of an array or a list, or the first of them.
    List {
        /// The elements.
        elements: Vec<Self>,
        /// The number of elements that were left out.
        omitted: u64,
    },
    /// Elements that were left out, of a list whose other elements have fields.
    Omitted(u64),
    /// An option without a value, or a value that is not made yet.
    None,
    /// The bytes of a part whose type is not known, or the first of them.
    Bytes {
        /// The bytes.
        bytes: Vec<u8>,
        /// The number of bytes that were left out.
        omitted: u64,
    },
    /// Bytes that are no value of the type.
    Invalid,
    /// The bytes can't be read.
    Unreadable,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(number) => number.fmt(f),
            Self::Signed(number) => number.fmt(f),
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Double(number) => write!(f, "{number:?}"),
            Self::Bool(value) => value.fmt(f),
            Self::Char(value) => write!(f, "'{}'", printable(&value.to_string())),
            Self::Text { text, omitted } => {
                write!(f, "\"{}\"", printable(text))?;
                more(f, *omitted, "bytes")
            }
            Self::Variant(name) => f.write_str(&printable(name)),
            Self::List { elements, omitted } => {
                f.write_str("[")?;
                for (number, element) in elements.iter().enumerate() {
                    let comma = if number > 0 { ", " } else { "" };
                    write!(f, "{comma}{element}")?;
                }
                more(f, *omitted, "elements")?;
                f.write_str("]")
            }
            Self::Omitted(count) => write!(f, "… {count} more elements"),
            Self::None => f.write_str("none"),
            Self::Bytes { bytes, omitted } => {
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                more(f, *omitted, "bytes")
            }
            Self::Invalid => f.write_str("invalid"),
            Self::Unreadable => f.write_str("unreadable"),
        }
    }
}

fn more(f: &mut fmt::Formatter<'_>, count: u64, what: &str) -> fmt::Result {
    match count {
        0 => Ok(()),
        _ => write!(f, " … {count} more {what}"),
    }
}

/// Returns at most `limit` values of the fields of a segment.
pub(super) fn read(opened: &Opened, limit: usize) -> Result<Option<Values>, Error> {
    let Some(types) = opened.types()? else {
        return Ok(None);
    };
    let mut walk = Walk {
        types: &types,
        reader: Reader::new(opened),
        elements: opened.header.len,
        is_swapped: opened.header.layout.abi.endianness == 2,
        path: String::new(),
        fields: Vec::new(),
        limit,
        parts: limit.saturating_mul(PARTS_PER_VALUE),
        room: MAX_PATHS,
        is_cut: false,
    };
    walk.part(types.root(), 0);
    Ok(Some(Values {
        fields: walk.fields,
        is_cut: walk.is_cut,
    }))
}

/// A walk over the parts of a value.
struct Walk<'a> {
    types: &'a Types,
    reader: Reader<'a>,
    /// The number of elements of a slice.
    elements: u64,
    /// Whether the numbers are big-endian.
    is_swapped: bool,
    path: String,
    fields: Vec<FieldValue>,
    limit: usize,
    /// The number of parts that may still be visited.
    parts: usize,
    /// The number of bytes that the paths may still have.
    room: usize,
    is_cut: bool,
}

impl<'a> Walk<'a> {
    /// Adds a value at the present path.
    fn add(&mut self, offset: u64, value: Value) {
        let shown = beginning(&self.path, LONGEST_PATH);
        let mut path = shown.to_owned();
        if shown.len() < self.path.len() {
            path.push('…');
        }
        if self.fields.len() >= self.limit || path.len() > self.room {
            self.is_cut = true;
            return;
        }
        self.room -= path.len();
        self.fields.push(FieldValue {
            path,
            offset,
            value,
        });
    }

    /// Returns whether the walk has to end, and counts one part.
    fn is_over(&mut self) -> bool {
        self.is_cut = self.is_cut || self.parts == 0;
        self.parts = self.parts.saturating_sub(1);
        self.is_cut
    }

    /// Adds the values in a part of the value that begins at `offset`.
    fn part(&mut self, of: &'a Type, offset: u64) {
        if self.is_over() {
            return;
        }
        if let Some(value) = self.scalar(of, offset) {
            return self.add(offset, value);
        }
        match (of.kind.as_str(), &of.fields[..]) {
            ("array", [element]) => self.list(element, offset, element.offset),
            ("slice", [element]) => self.list(element, offset, self.elements),
            ("ShmString", [len, bytes]) => self.text(len, bytes, offset),
            ("ShmVec", [len, elements]) => self.bounded_list(len, elements, offset),
            ("ShmOption", [is_some, value]) => match self.number(is_some, offset) {
                None => self.add(offset, Value::Unreadable),
                Some(0) => self.add(offset, Value::None),
                Some(_) => self.same_path(value, offset),
            },
            ("enum", [tag]) => self.choice(of, tag, offset),
            ("CachePadded", [inner]) => self.same_path(inner, offset),
            ("MaybeUninit", _) => self.opaque(of, offset),
            ("ShmOnceLock", [value]) => match self.u32_at(offset, MADE_AT) {
                None => self.add(offset, Value::Unreadable),
                Some(MADE) => self.field(value, offset),
                Some(_) => self.add(offset, Value::None),
            },
            ("Published", [slots]) => self.published(slots, offset),
            ("ShmRwLock", [_, data]) => self.field(data, offset),
            // The table of sync objects has them, or parts of them.
            (
                "ShmCondvar" | "PthreadCondvar" | "ShmEvent" | "ShmSemaphore" | "ShmLifeline"
                | "Lifelines" | "ShmBarrier" | "ShmChannel" | "ShmPipe" | "Seat" | "PhantomData"
                | "()",
                _,
            ) => {}
            ("struct" | "tuple" | "with tail", []) => {}
            (_, []) => self.opaque(of, offset),
            (_, fields) => {
                for field in fields {
                    self.field(field, offset);
                }
            }
        }
    }

    /// Adds the values in a field of a part that begins at `start`.
    fn field(&mut self, field: &'a Field, start: u64) {
        let end = self.path.len();
        self.path.push('.');
        self.path += beginning(&field.name, LONGEST_NAME);
        self.same_path(field, start);
        self.path.truncate(end);
    }

    /// Adds the values in a field as if they were those of the part.
    fn same_path(&mut self, field: &'a Field, start: u64) {
        if let Some(of) = self.types.type_of(field) {
            self.part(of, start.saturating_add(field.offset));
        }
    }

    /// Adds the variant of an enum, and the values of its fields.
    fn choice(&mut self, of: &'a Type, tag: &'a Field, offset: u64) {
        let Some(number) = self.discriminant(tag, offset) else {
            return self.add(offset, Value::Unreadable);
        };
        let mut variants = of.variants.iter();
        let found = variants.find(|variant| variant.discriminant == number);
        let Some(Variant { name, fields, .. }) = found else {
            return self.add(offset, Value::Invalid);
        };
        let name = beginning(name, LONGEST_NAME);
        self.add(offset, Value::Variant(name.to_owned()));
        let end = self.path.len();
        self.path += "::";
        self.path += name;
        for field in fields {
            if self.is_over() {
                break;
            }
            self.field(field, offset);
        }
        self.path.truncate(end);
    }

    /// Adds the latest value of a `Published`.
    fn published(&mut self, slots: &'a Field, offset: u64) {
        let at = offset.saturating_add(VERSION_AT as u64);
        let version = self.reader.bytes::<8>(at);
        let (Some(version), Some(of)) = (version, self.types.type_of(slots)) else {
            return self.add(offset, Value::Unreadable);
        };
        let slot = u64::from_ne_bytes(version) % VERSION_SLOTS;
        let start = slot.saturating_mul(of.size);
        let start = start.saturating_add(offset).saturating_add(slots.offset);
        self.part(of, start);
    }

    /// Adds the text of a `ShmString`.
    fn text(&mut self, len: &Field, bytes: &'a Field, offset: u64) {
        let capacity = self.types.type_of(bytes).map_or(0, |of| of.size);
        let value = match self.number(len, offset) {
            None => Value::Unreadable,
            Some(len) if len > capacity => Value::Invalid,
            Some(len) => {
                let read = len.min(MAX_TEXT);
                let at = offset.saturating_add(bytes.offset);
                match self.reader.slice(at, read as usize) {
                    None => Value::Unreadable,
                    Some(bytes) => Value::Text {
                        text: String::from_utf8_lossy(bytes).into_owned(),
                        omitted: len - read,
                    },
                }
            }
        };
        self.add(offset, value);
    }

    /// Adds the elements of a `ShmVec`.
    fn bounded_list(&mut self, len: &Field, elements: &'a Field, offset: u64) {
        let array = self.types.type_of(elements);
        let element = array.and_then(|array| array.fields.first());
        let (Some(len), Some(element)) = (self.number(len, offset), element) else {
            return self.add(offset, Value::Unreadable);
        };
        match len > element.offset {
            true => self.add(offset, Value::Invalid),
            false => self.list(element, offset.saturating_add(elements.offset), len),
        }
    }

    /// Adds `count` elements from `start` on.
    fn list(&mut self, element: &'a Field, start: u64, count: u64) {
        let Some(of) = self.types.type_of(element) else {
            return;
        };
        let shown = count.min(MAX_ELEMENTS);
        let offset = |number: u64| start.saturating_add(number.saturating_mul(of.size));
        let omitted = count - shown;
        if count == 0 || is_scalar(of, self.types) {
            let elements = (0..shown).map(|number| {
                let value = self.scalar(of, offset(number));
                value.unwrap_or(Value::Unreadable)
            });
            let elements = elements.collect();
            return self.add(start, Value::List { elements, omitted });
        }
        let end = self.path.len();
        for number in 0..shown {
            if self.is_over() {
                break;
            }
            self.path += &format!("[{number}]");
            self.part(of, offset(number));
            self.path.truncate(end);
        }
        if omitted > 0 {
            self.path += &format!("[{shown}…]");
            self.add(offset(shown), Value::Omitted(omitted));
            self.path.truncate(end);
        }
    }

    /// Adds the bytes of a part whose type is not known.
    fn opaque(&mut self, of: &Type, offset: u64) {
        let read = of.size.min(MAX_BYTES);
        let value = match self.reader.slice(offset, read as usize) {
            None => Value::Unreadable,
            Some(bytes) => Value::Bytes {
                bytes: bytes.to_vec(),
                omitted: of.size - read,
            },
        };
        self.add(offset, value);
    }

    /// Returns the value of a scalar, or `None` if the type is none.
    fn scalar(&mut self, of: &Type, offset: u64) -> Option<Value> {
        let kind = scalar_kind(of, self.types)?;
        let Some(bits) = self.bits(of.size, offset) else {
            return Some(Value::Unreadable);
        };
        Some(match kind {
            "f32" => Value::Float(f32::from_bits(bits as u32)),
            "f64" => Value::Double(f64::from_bits(bits as u64)),
            "bool" => match bits {
                0 | 1 => Value::Bool(bits == 1),
                _ => Value::Invalid,
            },
            "char" => char::from_u32(bits as u32).map_or(Value::Invalid, Value::Char),
            kind if kind.starts_with('i') => Value::Signed(signed(bits, of.size)),
            _ => Value::Unsigned(bits),
        })
    }

    /// Returns a number of `size` bytes.
    fn bits(&mut self, size: u64, offset: u64) -> Option<u128> {
        let size = usize::try_from(size).ok().filter(|size| *size <= 16)?;
        let bytes = self.reader.slice(offset, size)?;
        let mut all = [0; 16];
        all[..size].copy_from_slice(bytes);
        if self.is_swapped {
            all[..size].reverse();
        }
        Some(u128::from_le_bytes(all))
    }

    /// Returns the unsigned number in a field of a part that begins at `start`.
    fn number(&mut self, field: &Field, start: u64) -> Option<u64> {
        let of = self.types.type_of(field)?;
        int_of(&of.kind)?;
        let bits = self.bits(of.size, start.saturating_add(field.offset))?;
        u64::try_from(bits).ok()
    }

    fn u32_at(&mut self, start: u64, offset: usize) -> Option<u32> {
        let bits = self.bits(4, start.saturating_add(offset as u64))?;
        u32::try_from(bits).ok()
    }

    /// Returns the discriminant of an enum at `start`.
    fn discriminant(&mut self, tag: &Field, start: u64) -> Option<i128> {
        let of = self.types.type_of(tag)?;
        let bits = self.bits(of.size, start)?;
        Some(match of.kind.starts_with('i') {
            true => signed(bits, of.size),
            false => bits as i128,
        })
    }
}

/// Sign-extends a number of `size` bytes.
fn signed(bits: u128, size: u64) -> i128 {
    let unused = 128 - 8 * size.clamp(1, 16) as u32;
    (bits << unused) as i128 >> unused
}

/// Returns the whole characters in the first `longest` bytes of a text.
fn beginning(text: &str, longest: usize) -> &str {
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

fn is_scalar(of: &Type, types: &Types) -> bool {
    scalar_kind(of, types).is_some()
}

/// Returns the Rust name of a scalar type, also for an atomic and a `NonZero` of it.
fn scalar_kind<'a>(of: &'a Type, types: &'a Types) -> Option<&'a str> {
    let kind = match (of.kind.as_str(), &of.fields[..]) {
        ("NonZero", [inner]) => types.type_of(inner)?.kind.as_str(),
        (kind, _) => kind,
    };
    let (kind, size) = match kind {
        "f32" | "char" => (kind, 4),
        "f64" => (kind, 8),
        "bool" | "AtomicBool" => ("bool", 1),
        "AtomicU8" => ("u8", 1),
        "AtomicU16" => ("u16", 2),
        "AtomicU32" => ("u32", 4),
        "AtomicU64" | "AtomicUsize" => ("u64", 8),
        "AtomicI8" => ("i8", 1),
        "AtomicI16" => ("i16", 2),
        "AtomicI32" => ("i32", 4),
        "AtomicI64" | "AtomicIsize" => ("i64", 8),
        kind => (kind, int_of(kind)?),
    };
    (of.size == size).then_some(kind)
}
