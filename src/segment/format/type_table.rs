//! The type table of a segment: every type in its value, for programs that do not know
//! the types.
//!
//! It follows the lock table, at a multiple of eight bytes. It is a sequence of entries
//! of 64-bit words, which are little-endian:
//!
//! | words of an entry | content |
//! |---|---|
//! | 0–1 | fingerprint of the type, the lower word first |
//! | 2 | number of words of the message |
//! | 3– | the message whose hash is the fingerprint: [`Description`] has its grammar |
//!
//! Each type is listed once, after the types of its fields. So no type contains itself.
//! The last type is that of the value.
//!
//! [`parse`] is total: any bytes give types that could exist, or an error.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use crate::error::CorruptHeader;
use crate::shm_safe::{Description, FIELD, Fingerprint, TYPE, VARIANT, fingerprint_of};

/// A type table begins at a multiple of this number of bytes.
pub(in crate::segment) const ALIGN: u64 = 8;

/// A segment has no type table if it would be longer, in bytes. A table of this length
/// names a hundred thousand fields.
pub(crate) const MAX_LEN: usize = 8 << 20;

/// A segment has no type table if its types are nested more deeply. So programs can
/// walk over a type by recursion.
pub(crate) const MAX_DEPTH: u32 = 200;

/// The number of words before the message of an entry.
const ENTRY_HEAD: usize = 3;

/// The least number of words of a field and of a variant.
const SHORTEST_ITEM: u64 = 4;

/// All types in the value of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Types {
    /// Each type comes after those of its fields. The list is never empty.
    all: Vec<Type>,
}

/// A type in the value of a segment. Another user may have written it: the texts can
/// contain any character.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Type {
    /// The structural hash of the type.
    pub fingerprint: Fingerprint,
    /// The kind: `struct`, `enum`, `tuple`, `array`, `slice`, `with tail`, or the name
    /// of a type of Rust or of this crate, such as `u64`, `AtomicU32` and `ShmMutex`.
    pub kind: String,
    /// The size in bytes, or 0 if it depends on the length that the creator chose.
    pub size: u64,
    /// The alignment in bytes.
    pub align: u64,
    /// The fields. An array and a slice have one, which stands for all elements. An
    /// enum has one, its discriminant, whose name is the `repr`: `u8` or `C, u8`.
    pub fields: Vec<Field>,
    /// The variants of an enum.
    pub variants: Vec<Variant>,
    /// How deeply types are nested in it.
    #[cfg_attr(feature = "serde", serde(skip))]
    depth: u32,
    /// Whether the size depends on the length that the creator chose.
    #[cfg_attr(feature = "serde", serde(skip))]
    is_variable: bool,
}

/// A field of a type or of a variant.
#[non_exhaustive]
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Field {
    /// The name, or the number in a tuple.
    pub name: String,
    /// The offset in bytes. For the field of an array, it is the number of elements;
    /// for that of a slice, the size of an element.
    pub offset: u64,
    /// The fingerprint of the field's type.
    pub fingerprint: Fingerprint,
    /// The index of the field's type in the table.
    #[cfg_attr(feature = "serde", serde(skip))]
    index: usize,
}

impl Field {
    /// Returns what two fields are compared by. Equal types of two tables have
    /// different indices.
    fn key(&self) -> (&str, u64, Fingerprint) {
        (&self.name, self.offset, self.fingerprint)
    }
}

impl PartialEq for Field {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Field {}

impl Hash for Field {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// A variant of an enum.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Variant {
    /// The name.
    pub name: String,
    /// The discriminant. If the `repr` is `u128`, the bits are those of the number.
    #[cfg_attr(feature = "serde", serde(serialize_with = "signed"))]
    pub discriminant: i128,
    /// The fields, with their offsets from the start of the enum.
    pub fields: Vec<Field>,
}

impl Types {
    /// Returns the type of the value.
    #[must_use]
    pub fn root(&self) -> &Type {
        self.all
            .last()
            .unwrap_or_else(|| unreachable!("`parse` returns no empty table"))
    }

    /// Returns all types. Each comes after those of its fields, and that of the value
    /// is the last.
    #[must_use]
    pub fn all(&self) -> &[Type] {
        &self.all
    }

    /// Returns the type of a field of one of these types, or `None` if the field is of
    /// another table.
    #[must_use]
    pub fn type_of(&self, field: &Field) -> Option<&Type> {
        let found = self.all.get(field.index)?;
        (found.fingerprint == field.fingerprint).then_some(found)
    }
}

impl Type {
    /// Returns whether the size depends on the length that the creator of the segment
    /// chose.
    #[must_use]
    pub fn is_variable(&self) -> bool {
        self.is_variable
    }
}

/// Returns the type table of a type. It is empty if it would exceed [`MAX_LEN`] or
/// [`MAX_DEPTH`].
pub(in crate::segment) fn of(root: &'static Description) -> Vec<u8> {
    /// What to do next.
    enum Step {
        Visit(&'static Description),
        /// All types inside are listed.
        List(&'static Description),
    }
    let mut bytes = Vec::new();
    // Ordered maps, because hash maps need random numbers, which a sandbox may refuse.
    let mut seen = BTreeSet::new();
    let mut depths: BTreeMap<u128, u32> = BTreeMap::new();
    // A type may be nested more deeply than the stack of a thread permits.
    let mut steps = vec![Step::Visit(root)];
    while let Some(step) = steps.pop() {
        match step {
            Step::Visit(of) if seen.insert(of.fingerprint().to_bits()) => {
                steps.push(Step::List(of));
                steps.extend(of.field_types().map(Step::Visit));
            }
            Step::Visit(_) => {}
            Step::List(of) => {
                let inside = of.field_types();
                let inside = inside.filter_map(|of| depths.get(&of.fingerprint().to_bits()));
                let depth = 1 + inside.copied().max().unwrap_or(0);
                depths.insert(of.fingerprint().to_bits(), depth);
                let message = of.message();
                let fingerprint = of.fingerprint().to_bits();
                let head = [
                    fingerprint as u64,
                    (fingerprint >> 64) as u64,
                    message.len() as u64,
                ];
                let words = head.into_iter().chain(message);
                bytes.extend(words.flat_map(u64::to_le_bytes));
                if depth > MAX_DEPTH || bytes.len() > MAX_LEN {
                    return Vec::new();
                }
            }
        }
    }
    bytes
}

/// Reads the type table of a value with this fingerprint.
///
/// # Errors
///
/// [`CorruptHeader::UnreadableTypeTable`].
pub(crate) fn parse(bytes: &[u8], root: Fingerprint) -> Result<Types, CorruptHeader> {
    try_parse(bytes, root).ok_or(CorruptHeader::UnreadableTypeTable)
}

fn try_parse(bytes: &[u8], root: Fingerprint) -> Option<Types> {
    if bytes.len() > MAX_LEN || bytes.len() % 8 != 0 {
        return None;
    }
    let words: Vec<u64> = bytes
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(std::array::from_fn(|i| word[i])))
        .collect();
    let mut rest = &words[..];
    let mut all: Vec<Type> = Vec::new();
    let mut indices = BTreeMap::new();
    while !rest.is_empty() {
        let (head, after) = rest.split_at_checked(ENTRY_HEAD)?;
        let (message, after) = after.split_at_checked(usize::try_from(head[2]).ok()?)?;
        rest = after;
        let fingerprint = fingerprint_of(message.iter().copied());
        if fingerprint.to_bits() != wide(head[0], head[1]) {
            return None;
        }
        let mut words = Words {
            rest: message,
            all: &all,
            indices: &indices,
        };
        let mut found = words.type_(fingerprint)?;
        if !words.rest.is_empty() || !found.complete(&all) {
            return None;
        }
        if indices.insert(fingerprint.to_bits(), all.len()).is_some() {
            return None;
        }
        all.push(found);
    }
    (all.last()?.fingerprint == root).then_some(Types { all })
}

fn wide(low: u64, high: u64) -> u128 {
    u128::from(low) | u128::from(high) << 64
}

/// The rest of a message.
struct Words<'a> {
    rest: &'a [u64],
    /// The types before this one.
    all: &'a [Type],
    indices: &'a BTreeMap<u128, usize>,
}

impl Words<'_> {
    fn word(&mut self) -> Option<u64> {
        let (word, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*word)
    }

    fn wide(&mut self) -> Option<u128> {
        Some(wide(self.word()?, self.word()?))
    }

    /// Returns a number of items, for which there must be room.
    fn count(&mut self) -> Option<u64> {
        let count = self.word()?;
        (count <= self.rest.len() as u64 / SHORTEST_ITEM).then_some(count)
    }

    fn text(&mut self, tag: u64) -> Option<String> {
        let head = self.word()?;
        let len = usize::try_from(head >> 8).ok()?;
        let (words, rest) = self.rest.split_at_checked(len.div_ceil(8))?;
        self.rest = rest;
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let padding = bytes.split_off(len);
        let is_canonical = head & 0xff == tag && padding.iter().all(|byte| *byte == 0);
        String::from_utf8(bytes).ok().filter(|_| is_canonical)
    }

    fn type_(&mut self, fingerprint: Fingerprint) -> Option<Type> {
        let kind = self.text(TYPE)?;
        let (size, align) = (self.word()?, self.word()?);
        let fields = self.word()?;
        let variants = self.count()?;
        Some(Type {
            fingerprint,
            kind,
            size,
            align,
            fields: self.fields(fields)?,
            variants: (0..variants)
                .map(|_| self.variant())
                .collect::<Option<_>>()?,
            depth: 0,
            is_variable: false,
        })
    }

    fn variant(&mut self) -> Option<Variant> {
        let name = self.text(VARIANT)?;
        let discriminant = self.wide()? as i128;
        let fields = self.word()?;
        let fields = self.fields(fields)?;
        Some(Variant {
            name,
            discriminant,
            fields,
        })
    }

    fn fields(&mut self, count: u64) -> Option<Vec<Field>> {
        // Each field has some words, so this ends when the words do.
        (0..count).map(|_| self.field()).collect()
    }

    fn field(&mut self) -> Option<Field> {
        let name = self.text(FIELD)?;
        let offset = self.word()?;
        let fingerprint = Fingerprint::from_bits(self.wide()?);
        let index = *self.indices.get(&fingerprint.to_bits())?;
        debug_assert!(index < self.all.len());
        Some(Field {
            name,
            offset,
            fingerprint,
            index,
        })
    }
}

impl Type {
    /// Adds what follows from the types of the fields. Returns whether the type could
    /// exist.
    fn complete(&mut self, all: &[Self]) -> bool {
        let fields = self.all_fields();
        let depth = 1 + fields
            .map(|field| all[field.index].depth)
            .max()
            .unwrap_or(0);
        let is_variable = match self.kind.as_str() {
            "slice" => true,
            "with tail" | "ShmMutex" => {
                let last = self.fields.last();
                last.is_some_and(|field| all[field.index].is_variable)
            }
            _ => false,
        };
        self.depth = depth;
        self.is_variable = is_variable;
        depth <= MAX_DEPTH && self.align.is_power_of_two() && self.is_possible(all)
    }

    fn all_fields(&self) -> impl Iterator<Item = &Field> {
        let in_variants = self.variants.iter().flat_map(|variant| &variant.fields);
        self.fields.iter().chain(in_variants)
    }

    /// Returns whether every field is inside the type, aligned, and of a type of fixed
    /// size.
    fn is_possible(&self, all: &[Self]) -> bool {
        let is_sized = self.size % self.align == 0 && self.size <= isize::MAX as u64;
        if self.kind == "array" || self.kind == "slice" {
            let [element] = &self.fields[..] else {
                return false;
            };
            let of = &all[element.index];
            let size = match self.kind.as_str() {
                "array" => element.offset.checked_mul(of.size),
                _ => (element.offset == of.size).then_some(0),
            };
            return is_sized
                && size == Some(self.size)
                && of.align == self.align
                && !of.is_variable
                && self.variants.is_empty();
        }
        if self.kind == "enum" {
            let [discriminant] = &self.fields[..] else {
                return false;
            };
            let of = &all[discriminant.index];
            if discriminant.offset != 0 || int_of(&of.kind) != Some(of.size) {
                return false;
            }
        } else if !self.variants.is_empty() {
            return false;
        }
        let last = self.fields.len();
        is_sized
            && (!self.is_variable || self.size == 0)
            && self.all_fields().enumerate().all(|(number, field)| {
                let of = &all[field.index];
                let may_be_variable = self.is_variable && number + 1 == last;
                let end = field.offset.checked_add(of.size);
                let is_inside = end.is_some_and(|end| {
                    let limit = if self.is_variable {
                        isize::MAX as u64
                    } else {
                        self.size
                    };
                    end <= limit
                });
                is_inside
                    && field.offset % of.align == 0
                    && of.align <= self.align
                    && (may_be_variable || !of.is_variable)
            })
    }
}

/// Serialises a number. Few formats have numbers of 128 bits, so a large one is a text.
#[cfg(feature = "serde")]
pub(crate) fn signed<S: serde::Serializer>(
    number: &i128,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match i64::try_from(*number) {
        Ok(number) => serializer.serialize_i64(number),
        Err(_) => serializer.collect_str(number),
    }
}

/// Serialises a number, as [`signed`] does.
#[cfg(feature = "serde")]
pub(crate) fn unsigned<S: serde::Serializer>(
    number: &u128,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match u64::try_from(*number) {
        Ok(number) => serializer.serialize_u64(number),
        Err(_) => serializer.collect_str(number),
    }
}

/// Returns the size in bytes of the integer type with this name.
pub(crate) fn int_of(kind: &str) -> Option<u64> {
    Some(match kind {
        "u8" | "i8" => 1,
        "u16" | "i16" => 2,
        "u32" | "i32" => 4,
        "u64" | "i64" | "usize" | "isize" => 8,
        "u128" | "i128" => 16,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;
    use crate::shm_safe::{CachePadded, Parts, SegmentContent, ShmSafe, WithTail};
    use proptest::collection::vec;
    use proptest::prelude::*;

    type Jobs = ([(u8, CachePadded<[u16; 3]>); 5], f64, u8);

    fn table_of<T: SegmentContent + ?Sized>() -> Types {
        parse(&of(T::DESCRIPTION), T::DESCRIPTION.fingerprint()).expect("a type has a table")
    }

    /// Describes a type with its fields, as far as they are structs, tuples and arrays.
    fn shape(types: &Types, of: &Type) -> String {
        let fields = of.fields.iter().map(|field| {
            let of = types.type_of(field).expect("it is of this table");
            format!("{}@{}: {}", field.name, field.offset, shape(types, of))
        });
        let fields: Vec<String> = fields.collect();
        match fields.is_empty() {
            true => of.kind.clone(),
            false => format!("{} {{ {} }}", of.kind, fields.join(", ")),
        }
    }

    fn text(tag: u64, text: &str) -> Vec<u64> {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let words = bytes.chunks(8).map(|word| {
            let word: [u8; 8] = word.try_into().expect("a chunk has eight bytes");
            u64::from_le_bytes(word)
        });
        let mut all = vec![tag | (text.len() as u64) << 8];
        all.extend(words);
        all
    }

    /// A message, and the fingerprint of its type.
    #[derive(Clone, Debug)]
    struct Message(Vec<u64>);

    impl Message {
        /// Returns the message of a type without variants.
        fn new(kind: &str, size: u64, align: u64, fields: &[(&str, u64, u128)]) -> Self {
            let mut words = text(TYPE, kind);
            words.extend([size, align, fields.len() as u64, 0]);
            for (name, offset, of) in fields {
                words.extend(text(FIELD, name));
                words.extend([*offset, *of as u64, (of >> 64) as u64]);
            }
            Self(words)
        }

        fn fingerprint(&self) -> u128 {
            fingerprint_of(self.0.iter().copied()).to_bits()
        }

        fn entry(&self) -> Vec<u64> {
            let fingerprint = self.fingerprint();
            let (low, high) = (fingerprint as u64, (fingerprint >> 64) as u64);
            let mut words = vec![low, high, self.0.len() as u64];
            words.extend(&self.0);
            words
        }
    }

    fn bytes_of(words: impl IntoIterator<Item = u64>) -> Vec<u8> {
        words.into_iter().flat_map(u64::to_le_bytes).collect()
    }

    fn parse_all(messages: &[Message]) -> Result<Types, CorruptHeader> {
        let root = messages.last().expect("there is a message").fingerprint();
        let words = messages.iter().flat_map(Message::entry);
        parse(&bytes_of(words), Fingerprint::from_bits(root))
    }

    /// Returns types that contain each other, each the one before it several times.
    fn nest(depth: usize, times: usize) -> Vec<Message> {
        let mut all = vec![Message::new("u8", 1, 1, &[])];
        for _ in 1..depth {
            let of = all.last().expect("there is a message").fingerprint();
            // Overlapping fields, so that the size does not grow.
            let fields = vec![("a", 0, of); times];
            all.push(Message::new("struct", 1, 1, &fields));
        }
        all
    }

    #[test]
    fn smoke() {
        let types = table_of::<Jobs>();
        let offsets = [
            std::mem::offset_of!(Jobs, 0),
            std::mem::offset_of!(Jobs, 1),
            std::mem::offset_of!(Jobs, 2),
        ];
        let inner = [
            std::mem::offset_of!((u8, CachePadded<[u16; 3]>), 0),
            std::mem::offset_of!((u8, CachePadded<[u16; 3]>), 1),
        ];
        let padded = "CachePadded { value@0: array { 0@3: u16 } }";
        let job = format!("tuple {{ 0@{}: u8, 1@{}: {padded} }}", inner[0], inner[1]);
        let expected = format!(
            "tuple {{ 0@{}: array {{ 0@5: {job} }}, 1@{}: f64, 2@{}: u8 }}",
            offsets[0], offsets[1], offsets[2]
        );
        assert_eq!(shape(&types, types.root()), expected);
        assert_eq!(types.all().len(), 8, "each type is listed once: {types:?}");
        assert_eq!(types.root().size, size_of::<Jobs>() as u64);
        assert_eq!(types.root().align, align_of::<Jobs>() as u64);
    }

    #[test]
    fn variable_lengths_are_described() {
        type Table = WithTail<u8, [(u64, u64)]>;
        let types = table_of::<Table>();
        let element = "tuple { 0@0: u64, 1@8: u64 }";
        let expected = format!("with tail {{ head@0: u8, tail@8: slice {{ 0@16: {element} }} }}");
        assert_eq!(shape(&types, types.root()), expected);
        assert!(types.root().is_variable());
        assert!(!table_of::<Jobs>().root().is_variable());
    }

    #[test]
    fn depth_is_bounded() {
        let limit = MAX_DEPTH as usize;
        for times in [1, 3] {
            assert!(parse_all(&nest(limit, times)).is_ok());
            let error = parse_all(&nest(limit + 1, times));
            assert_eq!(error, Err(CorruptHeader::UnreadableTypeTable));
        }
    }

    #[test]
    fn too_deep_type_has_no_table() {
        let mut of: &'static Description = <u8 as ShmSafe>::DESCRIPTION;
        for depth in 2..MAX_DEPTH + 2 {
            let fields = Vec::leak(vec![("a", 0, of), ("b", 0, of)]);
            let parts = Parts {
                fields,
                ..Parts::opaque("struct", 1, 1)
            };
            of = Box::leak(Box::new(Description::new(parts)));
            assert_eq!(super::of(of).is_empty(), depth > MAX_DEPTH, "{depth}");
        }
    }

    #[test]
    fn each_fault_is_found() {
        let byte = Message::new("u8", 1, 1, &[]);
        let of = byte.fingerprint();
        let one = |size, align, offset| Message::new("struct", size, align, &[("a", offset, of)]);
        let good = one(2, 1, 1);
        assert!(parse_all(&[byte.clone(), good.clone()]).is_ok());

        let list = |fields: &[(&str, u64, u128)]| Message::new("array", 3, 1, fields);
        let slice = Message::new("slice", 0, 1, &[("0", 1, of)]);
        let word = Message::new("u32", 4, 4, &[]);
        let words = word.fingerprint();
        let faults: [(&str, &[Message]); 20] = [
            (
                "a misaligned field",
                &[
                    word.clone(),
                    Message::new("struct", 8, 4, &[("a", 2, words)]),
                ],
            ),
            (
                "a field that is aligned more",
                &[
                    word.clone(),
                    Message::new("struct", 8, 1, &[("a", 0, words)]),
                ],
            ),
            (
                "an array that is aligned less",
                &[
                    word.clone(),
                    Message::new("array", 8, 1, &[("0", 2, words)]),
                ],
            ),
            ("no field type", std::slice::from_ref(&good)),
            ("a later field type", &[good.clone(), byte.clone()]),
            ("a type twice", &[byte.clone(), byte.clone()]),
            ("a field outside", &[byte.clone(), one(2, 1, 2)]),
            ("a field far outside", &[byte.clone(), one(2, 1, u64::MAX)]),
            ("no power of two", &[byte.clone(), one(3, 3, 0)]),
            ("no alignment", &[byte.clone(), one(3, 0, 0)]),
            ("a size between", &[byte.clone(), one(3, 2, 0)]),
            ("a large size", &[byte.clone(), one(1 << 63, 1, 0)]),
            ("no elements", &[byte.clone(), list(&[])]),
            ("a wrong length", &[byte.clone(), list(&[("0", 4, of)])]),
            ("too long", &[byte.clone(), list(&[("0", 1 << 63 | 3, of)])]),
            (
                "two elements",
                &[byte.clone(), list(&[("0", 3, of), ("1", 3, of)])],
            ),
            (
                "a slice inside",
                &[
                    byte.clone(),
                    slice.clone(),
                    Message::new("struct", 1, 1, &[("a", 0, slice.fingerprint())]),
                ],
            ),
            (
                "a wrong stride",
                &[byte.clone(), Message::new("slice", 0, 1, &[("0", 2, of)])],
            ),
            ("no discriminant", &[Message::new("enum", 1, 1, &[])]),
            (
                "a discriminant that is no integer",
                &[
                    Message::new("f32", 4, 4, &[]),
                    Message::new(
                        "enum",
                        4,
                        4,
                        &[("u32", 0, Message::new("f32", 4, 4, &[]).fingerprint())],
                    ),
                ],
            ),
        ];
        for (what, messages) in faults {
            let error = Err(CorruptHeader::UnreadableTypeTable);
            assert_eq!(parse_all(messages), error, "{what}");
        }

        type Change = fn(&mut Vec<u64>);
        let faults: [(&str, Change); 9] = [
            ("a wrong tag", |words| words[0] += 1),
            ("a long text", |words| words[0] = u64::MAX << 8 | TYPE),
            ("no padding", |words| words[1] |= 1 << 63),
            ("no UTF-8", |words| words[1] = 0xff),
            ("many fields", |words| words[4] = u64::MAX),
            ("a field more", |words| words[4] += 1),
            ("many variants", |words| words[5] = u64::MAX),
            ("a word more", |words| words.push(0)),
            ("no words", Vec::clear),
        ];
        for (what, change) in faults {
            let mut changed = good.clone();
            change(&mut changed.0);
            let error = Err(CorruptHeader::UnreadableTypeTable);
            assert_eq!(parse_all(&[byte.clone(), changed]), error, "{what}");
        }

        let root = Fingerprint::from_bits(of);
        let bytes = bytes_of(byte.entry());
        assert!(parse(&bytes, root).is_ok());
        let mut wrong = bytes.clone();
        wrong[0] ^= 1;
        let faults = [
            ("no entry", parse(&[], root)),
            ("a part of a word", parse(&bytes[..bytes.len() - 1], root)),
            ("a part of an entry", parse(&bytes[..bytes.len() - 8], root)),
            ("a part of a head", parse(&bytes[..16], root)),
            ("another hash", parse(&wrong, root)),
            ("another type", parse(&bytes, Fingerprint::from_bits(1))),
            ("a long table", parse(&vec![0; MAX_LEN + 8], root)),
        ];
        for (what, found) in faults {
            assert_eq!(found, Err(CorruptHeader::UnreadableTypeTable), "{what}");
        }
    }

    /// Returns messages of types that could nearly exist.
    fn messages() -> impl Strategy<Value = Vec<Message>> {
        const KINDS: [&str; 8] = [
            "u8",
            "i32",
            "struct",
            "tuple",
            "enum",
            "array",
            "slice",
            "with tail",
        ];
        let number = || prop_oneof![8 => 0..9_u64, 1 => any::<u64>()];
        let field = ("[a-c]{0,9}", number(), any::<prop::sample::Index>());
        let parts = (
            proptest::sample::select(&KINDS[..]),
            number(),
            prop_oneof![8 => Just(1_u64), 1 => number()],
            vec(field, 0..4),
        );
        vec(parts, 1..9).prop_map(|all| {
            let mut messages: Vec<Message> = Vec::new();
            for (kind, size, align, fields) in all {
                let fields: Vec<_> = fields
                    .iter()
                    .filter(|_| !messages.is_empty())
                    .map(|(name, offset, of)| {
                        (name.as_str(), *offset, of.get(&messages).fingerprint())
                    })
                    .collect();
                messages.push(Message::new(kind, size, align, &fields));
            }
            messages
        })
    }

    proptest! {
        #[test]
        fn any_words_give_possible_types_or_fail(
            messages in messages(),
            changes in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..9_u64), 0..3),
        ) {
            let mut messages = messages;
            for (which, at, word) in changes {
                let which = which.index(messages.len());
                let message = &mut messages[which].0;
                let at = at.index(message.len());
                message[at] = word;
            }
            let Ok(types) = parse_all(&messages) else {
                return Ok(());
            };
            for (number, of) in types.all().iter().enumerate() {
                prop_assert!(of.align.is_power_of_two());
                for field in of.all_fields() {
                    let inner = types.type_of(field).expect("references are resolved");
                    let is_earlier = types.all()[..number].contains(inner);
                    prop_assert!(is_earlier, "{field:?} has a later type");
                    if !matches!(of.kind.as_str(), "array" | "slice") && !of.is_variable() {
                        prop_assert!(field.offset + inner.size <= of.size);
                    }
                }
            }
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(
            changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            len in any::<prop::sample::Index>(),
        ) {
            let good = of(<Jobs as ShmSafe>::DESCRIPTION);
            let mut bytes = good.clone();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let root = <Jobs as ShmSafe>::FINGERPRINT;
            prop_assert_eq!(parse(&bytes, root).is_ok(), bytes == good);
            bytes.truncate(len.index(bytes.len()));
            prop_assert!(parse(&bytes, root).is_err());
        }
    }

    #[test]
    fn numbers_are_documented() {
        documented::values(
            "limits of the type table",
            &[
                ("ALIGN", ALIGN),
                ("ENTRY_HEAD", ENTRY_HEAD as u64),
                ("MAX_LEN", MAX_LEN as u64),
                ("MAX_DEPTH", MAX_DEPTH.into()),
            ],
        );
    }
}
