//! The description of a type: what its fingerprint hashes, and what a segment's type
//! table contains. It is made at compile time.

mod sip_hash;

use std::fmt;

use crate::shm_safe::fingerprint::Fingerprint;

use sip_hash::SipHash;

/// The parts of a type.
///
/// The kinds are `struct`, `enum`, `tuple`, `array`, `slice`, `with tail` and the names
/// of types that are not derived.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// The kind of the type.
    pub kind: &'static str,
    /// The size in bytes; 0 if the length of a value is chosen when the segment is
    /// created.
    pub size: usize,
    /// The alignment in bytes.
    pub align: usize,
    /// The fields. An enum has one, its discriminant. Its name is the `repr`: `u8` or
    /// `C, u8`.
    pub fields: &'static [Field],
    /// The variants.
    pub variants: &'static [Variant],
}

impl Parts {
    /// Returns the parts of a type of which nothing but the size and the alignment is
    /// described.
    #[must_use]
    pub const fn opaque(kind: &'static str, size: usize, align: usize) -> Self {
        Self {
            kind,
            size,
            align,
            fields: &[],
            variants: &[],
        }
    }
}

/// A field: its name or number, its offset in bytes, and its type.
///
/// An array has one field, which stands for all elements. Its number is the length of
/// the array. A slice has one, too. Its number is the distance between two elements.
pub(super) type Field = (&'static str, usize, &'static Description);

/// A variant of an enum: its name, its discriminant (`None`: one more than that of the
/// variant before it) and its fields, in the order in which they lie in memory.
pub(super) type Variant = (&'static str, Option<i128>, &'static [VariantField]);

/// A field of a variant: its name or number, and its type. Its offset follows from the
/// `repr` of the enum.
pub(super) type VariantField = (&'static str, &'static Description);

/// A type with its fingerprint.
///
/// The fingerprint and the type table come from one description, which
/// [`new`](Self::new) computes from the parts, so they can't disagree.
///
/// # The message
///
/// The fingerprint is the hash of a message of 64-bit words with this grammar:
///
/// ```text
/// type    = TYPE text(kind) size align #fields #variants
///           field{#fields} variant{#variants}
/// field   = FIELD text(name) offset fingerprint
/// variant = VARIANT text(name) discriminant #fields field{#fields}
/// text    = length in bytes, then the bytes, padded with zeros to a whole word
/// ```
///
/// A tag and the length of the text after it share a word: the tag is the lowest byte.
/// A fingerprint and a discriminant (sign-extended) have two words each, the lower one
/// first. Each count precedes its items. Therefore a message can be parsed, and no
/// message is a prefix of another: two types that differ anywhere have different
/// messages.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Description {
    parts: Parts,
    fingerprint: Fingerprint,
    /// The length of the message in words.
    words: usize,
}

impl Description {
    /// Describes a type.
    #[must_use]
    pub const fn new(parts: Parts) -> Self {
        let hash = message(&parts, &mut []);
        Self {
            parts,
            words: hash.len() as usize,
            fingerprint: Fingerprint::from_bits(hash.finish()),
        }
    }

    /// Returns the fingerprint of the type.
    #[must_use]
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    #[cfg(test)]
    pub(crate) fn parts(&self) -> Parts {
        self.parts
    }

    /// Returns the message whose hash is the fingerprint.
    pub(crate) fn message(&self) -> Vec<u64> {
        let mut words = vec![0; self.words];
        message(&self.parts, &mut words);
        words
    }

    /// Returns the types of all fields, those of the variants included.
    pub(crate) fn field_types(&self) -> impl Iterator<Item = &'static Self> {
        let Parts {
            fields, variants, ..
        } = self.parts;
        let in_variants = variants.iter().flat_map(|(.., fields)| fields.iter());
        let fields = fields.iter().map(|(.., of)| *of);
        fields.chain(in_variants.map(|(_, of)| *of))
    }
}

/// Prints the kind and the fingerprint. Printing all fields could take very long,
/// because types may occur many times in each other.
impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Description({}, {})", self.parts.kind, self.fingerprint)
    }
}

/// The tags: the lowest byte of the first word of an item.
pub(crate) const TYPE: u64 = 1;
pub(crate) const FIELD: u64 = 2;
pub(crate) const VARIANT: u64 = 3;

/// The key of the hash. It is public and never changes.
const KEY: [u64; 2] = [
    u64::from_le_bytes(*b"shm-sync"),
    u64::from_le_bytes(*b" layout\0"),
];

/// Returns the fingerprint of the type that a message describes.
pub(crate) fn fingerprint_of(message: impl IntoIterator<Item = u64>) -> Fingerprint {
    let hash = message.into_iter().fold(SipHash::new(KEY), SipHash::word);
    Fingerprint::from_bits(hash.finish())
}

/// A message that is being written: its hash, and its first words as far as there is
/// room for them.
struct Message<'a> {
    hash: SipHash,
    words: &'a mut [u64],
}

/// Writes the message of a type to `words`, as far as there is room, and returns its
/// hash.
const fn message(parts: &Parts, words: &mut [u64]) -> SipHash {
    let hash = SipHash::new(KEY);
    let mut message = text(Message { hash, words }, TYPE, parts.kind)
        .word(parts.size as u64)
        .word(parts.align as u64)
        .word(parts.fields.len() as u64)
        .word(parts.variants.len() as u64);
    let mut rest = parts.fields;
    while let [(name, offset, of), after @ ..] = rest {
        message = field(message, name, *offset, of);
        rest = after;
    }
    let mut variants = parts.variants;
    let mut discriminant = -1_i128;
    let start = start_of_variant_fields(parts);
    while let [(name, given, fields), after @ ..] = variants {
        discriminant = match *given {
            Some(given) => given,
            None => discriminant.wrapping_add(1),
        };
        message = wide(text(message, VARIANT, name), discriminant as u128);
        message = message.word(fields.len() as u64);
        let mut end = start;
        let mut rest = *fields;
        while let [(name, of), after @ ..] = rest {
            let offset = end.next_multiple_of(of.parts.align);
            message = field(message, name, offset, of);
            end = offset + of.parts.size;
            rest = after;
        }
        variants = after;
    }
    message.hash
}

/// Returns the offset in an enum from which on the fields of each variant lie, each at
/// the first aligned offset after the field before it.
///
/// The Rust reference ("Type layout", "The primitive representations") defines it. With
/// `repr(u8)`, each variant is a `repr(C)` struct that begins with the discriminant.
/// With `repr(C, u8)`, a union of the structs of all variants follows the discriminant,
/// and is aligned for each field of each variant.
const fn start_of_variant_fields(parts: &Parts) -> usize {
    let (repr, discriminant) = match parts.fields {
        [(repr, 0, discriminant)] => (repr.as_bytes(), discriminant),
        _ => return 0, // not an enum
    };
    let start = discriminant.parts.size;
    if !matches!(repr, [b'C', ..]) {
        return start;
    }
    let mut align = 1;
    let mut variants = parts.variants;
    while let [(_, _, fields), after @ ..] = variants {
        let mut rest = *fields;
        while let [(_, of), after @ ..] = rest {
            if of.parts.align > align {
                align = of.parts.align;
            }
            rest = after;
        }
        variants = after;
    }
    start.next_multiple_of(align)
}

impl Message<'_> {
    const fn word(mut self, word: u64) -> Self {
        let at = self.hash.len() as usize;
        if at < self.words.len() {
            self.words[at] = word;
        }
        self.hash = self.hash.word(word);
        self
    }
}

const fn field<'a>(
    message: Message<'a>,
    name: &str,
    offset: usize,
    of: &Description,
) -> Message<'a> {
    let message = text(message, FIELD, name).word(offset as u64);
    wide(message, of.fingerprint.to_bits())
}

const fn text<'a>(message: Message<'a>, tag: u64, text: &str) -> Message<'a> {
    let mut message = message.word(tag | (text.len() as u64) << 8);
    let mut rest = text.as_bytes();
    while let Some((word, after)) = rest.split_first_chunk() {
        message = message.word(u64::from_le_bytes(*word));
        rest = after;
    }
    if rest.is_empty() {
        return message;
    }
    let mut word = 0;
    while let [before @ .., last] = rest {
        word = word << 8 | *last as u64;
        rest = before;
    }
    message.word(word)
}

const fn wide(message: Message<'_>, number: u128) -> Message<'_> {
    message.word(number as u64).word((number >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// A description of a type.
    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Type {
        kind: String,
        size: u64,
        align: u64,
        fields: Vec<Part>,
        variants: Vec<Choice>,
    }

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Part {
        name: String,
        offset: u64,
        fingerprint: u128,
    }

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct Choice {
        name: String,
        discriminant: i128,
        fields: Vec<Part>,
    }

    impl Part {
        /// Returns the type. Its size and its alignment follow from the fingerprint.
        fn of(&self) -> &'static Description {
            let number = self.fingerprint as usize;
            Box::leak(Box::new(Description {
                parts: Parts::opaque("", number % 7, 1 << ((number >> 3) % 4)),
                fingerprint: Fingerprint::from_bits(self.fingerprint),
                words: 0,
            }))
        }
    }

    fn leak(text: &str) -> &'static str {
        String::leak(text.to_owned())
    }

    impl Type {
        /// Returns the description, made as the derive macro makes it.
        fn description(&self) -> Description {
            let variants = self.variants.iter().map(|choice| {
                let fields = choice
                    .fields
                    .iter()
                    .map(|part| (leak(&part.name), part.of()));
                let fields: &[VariantField] = Vec::leak(fields.collect());
                (leak(&choice.name), Some(choice.discriminant), fields)
            });
            let fields = self.fields.iter();
            let fields = fields.map(|part| (leak(&part.name), part.offset as usize, part.of()));
            Description::new(Parts {
                kind: leak(&self.kind),
                size: self.size as usize,
                align: self.align as usize,
                fields: Vec::leak(fields.collect()),
                variants: Vec::leak(variants.collect()),
            })
        }

        fn fingerprint(&self) -> Fingerprint {
            self.description().fingerprint()
        }

        /// Gives each field of a variant its offset.
        fn place_fields(mut self) -> Self {
            let parts = self.variants.iter().flat_map(|choice| &choice.fields);
            let largest = parts.map(|part| part.of().parts.align).max().unwrap_or(1);
            let start = match &self.fields[..] {
                [one] if one.offset == 0 && one.name.starts_with('C') => {
                    one.of().parts.size.next_multiple_of(largest)
                }
                [one] if one.offset == 0 => one.of().parts.size,
                _ => 0,
            };
            for choice in &mut self.variants {
                let mut end = start;
                for part in &mut choice.fields {
                    let Parts { size, align, .. } = part.of().parts;
                    part.offset = end.next_multiple_of(align) as u64;
                    end = part.offset as usize + size;
                }
            }
            self
        }

        /// Returns the message, written by the grammar.
        fn message(&self) -> Vec<u64> {
            let mut words = Vec::new();
            put_text(&mut words, 1, &self.kind);
            let counts = [self.fields.len() as u64, self.variants.len() as u64];
            words.extend([self.size, self.align, counts[0], counts[1]]);
            put_fields(&mut words, &self.fields);
            for variant in &self.variants {
                put_text(&mut words, 3, &variant.name);
                put_wide(&mut words, variant.discriminant as u128);
                words.push(variant.fields.len() as u64);
                put_fields(&mut words, &variant.fields);
            }
            words
        }

        /// Reads a message by the grammar, and advances `words` to the rest.
        fn read(words: &mut &[u64]) -> Option<Self> {
            let kind = take_text(words, 1)?;
            let [size, align, fields, variants] = [(); 4].map(|()| take(words));
            let (fields, variants) = (fields?, variants?);
            Some(Self {
                kind,
                size: size?,
                align: align?,
                fields: take_fields(words, fields)?,
                variants: (0..variants)
                    .map(|_| {
                        let name = take_text(words, 3)?;
                        let discriminant = take_wide(words)? as i128;
                        let fields = take(words)?;
                        Some(Choice {
                            name,
                            discriminant,
                            fields: take_fields(words, fields)?,
                        })
                    })
                    .collect::<Option<_>>()?,
            })
        }
    }

    fn put_text(words: &mut Vec<u64>, tag: u64, text: &str) {
        words.push(tag + 256 * text.len() as u64);
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let word = |word: &[u8]| u64::from_le_bytes(word.try_into().unwrap());
        words.extend(bytes.chunks(8).map(word));
    }

    fn put_wide(words: &mut Vec<u64>, number: u128) {
        words.extend([number as u64, (number >> 64) as u64]);
    }

    fn put_fields(words: &mut Vec<u64>, fields: &[Part]) {
        for field in fields {
            put_text(words, 2, &field.name);
            words.push(field.offset);
            put_wide(words, field.fingerprint);
        }
    }

    fn take(words: &mut &[u64]) -> Option<u64> {
        let (first, rest) = words.split_first()?;
        *words = rest;
        Some(*first)
    }

    fn take_wide(words: &mut &[u64]) -> Option<u128> {
        Some(u128::from(take(words)?) | u128::from(take(words)?) << 64)
    }

    fn take_text(words: &mut &[u64], tag: u64) -> Option<String> {
        let head = take(words)?;
        let len = (head / 256) as usize;
        let mut bytes = Vec::new();
        for _ in 0..len.div_ceil(8) {
            bytes.extend(take(words)?.to_le_bytes());
        }
        bytes.truncate(len);
        (head % 256 == tag).then(|| String::from_utf8(bytes).ok())?
    }

    fn take_fields(words: &mut &[u64], count: u64) -> Option<Vec<Part>> {
        (0..count)
            .map(|_| {
                Some(Part {
                    name: take_text(words, 2)?,
                    offset: take(words)?,
                    fingerprint: take_wide(words)?,
                })
            })
            .collect()
    }

    /// Returns numbers that look like tags, lengths, counts and letters.
    fn number() -> impl Strategy<Value = u64> {
        const LIKELY: [u64; 11] = [0, 1, 2, 3, 8, 0x101, 0x102, 0x103, 0x61, 0x6162, u64::MAX];
        prop_oneof![9 => proptest::sample::select(&LIKELY[..]), 1 => any::<u64>()]
    }

    fn wide_number() -> impl Strategy<Value = u128> {
        (number(), number()).prop_map(|(low, high)| u128::from(low) | u128::from(high) << 64)
    }

    /// Returns similar names, of every length up to two words and more.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof!["[abC]{0,2}", "[a\0\u{1}\u{2}\u{3}]{0,17}", "\\PC{0,9}"]
    }

    fn fields() -> impl Strategy<Value = Vec<Part>> {
        let field = (name(), number(), wide_number());
        let field = field.prop_map(|(name, offset, fingerprint)| Part {
            name,
            offset,
            fingerprint,
        });
        vec(field, 0..4)
    }

    fn description() -> impl Strategy<Value = Type> {
        let variant = (name(), wide_number(), fields());
        let variant = variant.prop_map(|(name, discriminant, fields)| Choice {
            name,
            discriminant: discriminant as i128,
            fields,
        });
        let parts = (name(), number(), number(), fields(), vec(variant, 0..4));
        parts
            .prop_map(|(kind, size, align, fields, variants)| Type {
                kind,
                size,
                align,
                fields,
                variants,
            })
            .prop_map(Type::place_fields)
    }

    /// Returns two similar descriptions. The second consists of parts of the first,
    /// moved to where they could be mistaken for other parts.
    fn relatives() -> impl Strategy<Value = (Type, Type)> {
        (description(), description(), 0..6).prop_map(|(one, other, how)| {
            let mut two = one.clone();
            match how {
                0 => two = other,
                1 => two.fields = other.fields,
                // Fields change sides between two variants, or the type and a variant.
                2 => {
                    if let [first, second, ..] = &mut two.variants[..] {
                        second.fields.splice(0..0, first.fields.pop());
                    }
                }
                3 => {
                    if let [first, ..] = &mut two.variants[..] {
                        first.fields.splice(0..0, two.fields.pop());
                    }
                }
                // A variant becomes a field of the one before it.
                4 => {
                    if let Some(last) = two.variants.pop() {
                        let field = Part {
                            name: last.name,
                            offset: last.discriminant as u64,
                            fingerprint: last.discriminant as u128 >> 64,
                        };
                        let owner = two.variants.last_mut().map(|before| &mut before.fields);
                        owner.unwrap_or(&mut two.fields).push(field);
                    }
                }
                _ => two.variants.clear(),
            }
            (one, two.place_fields())
        })
    }

    fn of(parts: Parts) -> Fingerprint {
        Description::new(parts).fingerprint()
    }

    #[test]
    fn smoke() {
        let of = |kind, size, align| of(Parts::opaque(kind, size, align));
        let a = of("u32", 4, 4);
        assert_eq!(a, of("u32", 4, 4));
        assert_ne!(a, of("i32", 4, 4));
        assert_ne!(a, of("u32", 8, 4));
        assert_ne!(a, of("u32", 4, 8));
        assert_eq!(a.to_string().len(), 32);
        assert_eq!(
            Fingerprint::from_bits(0xf).to_string(),
            format!("{:032x}", 15)
        );
    }

    #[test]
    fn every_part_of_a_field_is_hashed() {
        const U32: Description = Description::new(Parts::opaque("u32", 4, 4));
        const I32: Description = Description::new(Parts::opaque("i32", 4, 4));
        let with = |field: Field| {
            let fields = Vec::leak(vec![field]);
            of(Parts {
                fields,
                ..Parts::opaque("struct", 8, 4)
            })
        };
        let one = with(("a", 0, &U32));
        assert_ne!(one, of(Parts::opaque("struct", 8, 4)));
        assert_ne!(one, with(("b", 0, &U32)));
        assert_ne!(one, with(("a", 4, &U32)));
        assert_ne!(one, with(("a", 0, &I32)));
    }

    #[test]
    fn implicit_discriminants_count_on() {
        let of = |discriminants: [Option<i128>; 4]| {
            let names = ["A", "B", "C", "D"].into_iter().zip(discriminants);
            let variants = names.map(|(name, given)| (name, given, &[][..]));
            of(Parts {
                variants: Vec::leak(variants.collect()),
                ..Parts::opaque("enum", 1, 1)
            })
        };
        let given = [0, 1, i128::MAX, i128::MIN].map(Some);
        assert_eq!(of([None, None, Some(i128::MAX), None]), of(given));
        assert_ne!(of([None; 4]), of(given));
    }

    proptest! {
        /// A description that can be read back differs from all others.
        #[test]
        fn messages_can_be_parsed(description in description()) {
            let message = description.message();
            let mut rest = message.as_slice();
            prop_assert_eq!(Type::read(&mut rest), Some(description));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn hash_is_that_of_the_grammars_message(description in description()) {
            let start = SipHash::new(KEY);
            let hash = description.message().into_iter().fold(start, SipHash::word);
            let described = description.description();
            prop_assert_eq!(described.fingerprint().to_bits(), hash.finish());
            prop_assert_eq!(described.message(), description.message());
        }

        #[test]
        fn different_descriptions_have_different_messages((one, two) in relatives()) {
            prop_assume!(one != two);
            let messages = [one.message(), two.message()];
            prop_assert!(!messages[0].starts_with(&messages[1]));
            prop_assert!(!messages[1].starts_with(&messages[0]));
            prop_assert_ne!(one.fingerprint(), two.fingerprint());
        }
    }

    #[test]
    fn numbers_are_documented() {
        documented::values(
            "tag",
            &[("TYPE", TYPE), ("FIELD", FIELD), ("VARIANT", VARIANT)],
        );
        documented::values("words of the key", &[("0", KEY[0]), ("1", KEY[1])]);
    }
}
