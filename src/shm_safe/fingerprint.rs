//! A structural hash of a type, computed at compile time.

mod sip_hash;

use std::fmt;

use sip_hash::SipHash;

/// A hash over the structure of a type: its field names, their types, offsets and
/// sizes, recursively.
///
/// Two programs with the same fingerprint have the same layout of the type. The
/// fingerprint ignores the type's own name and module, so that two crates may contain
/// the declaration.
///
/// ```
/// use shm_sync::{Fingerprint, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
///
/// const POINT: Fingerprint = Point::FINGERPRINT;
/// assert_ne!(POINT, <[f64; 2]>::FINGERPRINT);
/// assert_eq!(POINT.to_string(), format!("{:032x}", POINT.to_bits()));
/// ```
///
/// # Guarantees
///
/// Types with different descriptions are hashed as different messages. The hash is
/// SipHash-2-4 with 128 bits and a public key, so different messages do not have the
/// same hash by accident. It does not protect against malice: a process that may write
/// to a segment can write any fingerprint into its header.
/// [`ShmSafe`](crate::ShmSafe#fingerprints) lists what else it does not guarantee.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// Returns the fingerprint of a type without parts, with this size and alignment in
    /// bytes.
    #[doc(hidden)]
    #[must_use]
    pub const fn of(kind: &str, size: usize, align: usize) -> Self {
        Self::of_parts(kind, size, align, &[], &[])
    }

    /// Returns the fingerprint of a type of this kind, with this size and alignment in
    /// bytes.
    ///
    /// It is the hash of a message of 64-bit words with this grammar:
    ///
    /// ```text
    /// type    = TYPE text(kind) size align #fields #variants
    ///           field{#fields} variant{#variants}
    /// field   = FIELD text(name) offset fingerprint
    /// variant = VARIANT text(name) discriminant #fields field{#fields}
    /// text    = length in bytes, then the bytes, padded with zeros to a whole word
    /// ```
    ///
    /// A tag and the length of the text after it share a word. A fingerprint and a
    /// discriminant (sign-extended) have two words each, the lower one first. Each
    /// count precedes its items. Therefore a message can be parsed, and no message is a
    /// prefix of another: two types that differ anywhere have different messages.
    ///
    /// The kinds are `struct`, `enum`, `tuple`, `array`, `slice`, `with tail` and the
    /// names of types that are not derived. The offset of a field of a variant is its
    /// number, and that of an array's `0` is the length, because the rest follows from
    /// the kind. The field of an enum is its discriminant.
    #[doc(hidden)]
    #[must_use]
    pub const fn of_parts(
        kind: &str,
        size: usize,
        align: usize,
        fields: &[Field<'_>],
        variants: &[Variant<'_>],
    ) -> Self {
        let mut hash = text(SipHash::new(KEY), TYPE, kind)
            .word(size as u64)
            .word(align as u64)
            .word(fields.len() as u64)
            .word(variants.len() as u64);
        hash = all_fields(hash, fields);
        let mut rest = variants;
        let mut discriminant = -1_i128;
        while let [(name, given, fields), after @ ..] = rest {
            discriminant = match *given {
                Some(given) => given,
                None => discriminant.wrapping_add(1),
            };
            hash = wide(text(hash, VARIANT, name), discriminant as u128);
            hash = all_fields(hash.word(fields.len() as u64), fields);
            rest = after;
        }
        Self(hash.finish())
    }

    /// Returns the hash as a number, as headers contain it.
    #[must_use]
    pub const fn to_bits(self) -> u128 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Serialises the fingerprint as its digits.
#[cfg(feature = "serde")]
impl serde::Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A field, as [`Fingerprint::of_parts`] hashes it: its name or number, its offset in
/// bytes, and the fingerprint of its type.
pub(crate) type Field<'a> = (&'a str, usize, Fingerprint);

/// A variant of an enum, as [`Fingerprint::of_parts`] hashes it: its name, its
/// discriminant (`None`: one more than that of the variant before it) and its fields.
pub(crate) type Variant<'a> = (&'a str, Option<i128>, &'a [Field<'a>]);

/// The tags: the lowest byte of the first word of an item.
const TYPE: u64 = 1;
const FIELD: u64 = 2;
const VARIANT: u64 = 3;

/// The key of the hash. It is public and never changes.
const KEY: [u64; 2] = [
    u64::from_le_bytes(*b"shm-sync"),
    u64::from_le_bytes(*b" layout\0"),
];

const fn all_fields(mut hash: SipHash, fields: &[Field<'_>]) -> SipHash {
    let mut rest = fields;
    while let [(name, offset, of), after @ ..] = rest {
        hash = text(hash, FIELD, name).word(*offset as u64);
        hash = wide(hash, of.0);
        rest = after;
    }
    hash
}

const fn text(hash: SipHash, tag: u64, text: &str) -> SipHash {
    let mut hash = hash.word(tag | (text.len() as u64) << 8);
    let mut rest = text.as_bytes();
    while let Some((word, after)) = rest.split_first_chunk() {
        hash = hash.word(u64::from_le_bytes(*word));
        rest = after;
    }
    if rest.is_empty() {
        return hash;
    }
    let mut word = 0;
    while let [before @ .., last] = rest {
        word = word << 8 | *last as u64;
        rest = before;
    }
    hash.word(word)
}

const fn wide(hash: SipHash, number: u128) -> SipHash {
    hash.word(number as u64).word((number >> 64) as u64)
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

    impl Type {
        /// Returns the fingerprint, computed as the derive macro does.
        fn fingerprint(&self) -> Fingerprint {
            fn fields(parts: &[Part]) -> Vec<Field<'_>> {
                let mut fields = Vec::new();
                for part in parts {
                    let of = Fingerprint(part.fingerprint);
                    fields.push((part.name.as_str(), part.offset as usize, of));
                }
                fields
            }
            let inside: Vec<_> = self.variants.iter().map(|v| fields(&v.fields)).collect();
            let variants = self.variants.iter().zip(&inside);
            let variants: Vec<Variant<'_>> = variants
                .map(|(choice, fields)| {
                    (choice.name.as_str(), Some(choice.discriminant), &fields[..])
                })
                .collect();
            let (size, align) = (self.size as usize, self.align as usize);
            Fingerprint::of_parts(&self.kind, size, align, &fields(&self.fields), &variants)
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
        prop_oneof!["[ab]{0,2}", "[a\0\u{1}\u{2}\u{3}]{0,17}", "\\PC{0,9}"]
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
        parts.prop_map(|(kind, size, align, fields, variants)| Type {
            kind,
            size,
            align,
            fields,
            variants,
        })
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
            (one, two)
        })
    }

    #[test]
    fn smoke() {
        let a = Fingerprint::of("u32", 4, 4);
        assert_eq!(a, Fingerprint::of("u32", 4, 4));
        assert_ne!(a, Fingerprint::of("i32", 4, 4));
        assert_ne!(a, Fingerprint::of("u32", 8, 4));
        assert_ne!(a, Fingerprint::of("u32", 4, 8));
        assert_eq!(a.to_string().len(), 32);
        assert_eq!(
            Fingerprint::from_bits(0xf).to_string(),
            format!("{:032x}", 15)
        );
    }

    #[test]
    fn every_part_of_a_field_is_hashed() {
        let word = Fingerprint::of("u32", 4, 4);
        let with =
            |name, offset, of| Fingerprint::of_parts("struct", 8, 4, &[(name, offset, of)], &[]);
        let one = with("a", 0, word);
        assert_ne!(one, Fingerprint::of("struct", 8, 4));
        assert_ne!(one, with("b", 0, word));
        assert_ne!(one, with("a", 4, word));
        assert_ne!(one, with("a", 0, Fingerprint::of("i32", 4, 4)));
    }

    #[test]
    fn implicit_discriminants_count_on() {
        let of = |discriminants: [Option<i128>; 4]| {
            let variants = ["A", "B", "C", "D"];
            let variants: [Variant<'_>; 4] =
                std::array::from_fn(|i| (variants[i], discriminants[i], &[][..]));
            Fingerprint::of_parts("enum", 1, 1, &[], &variants)
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
            prop_assert_eq!(description.fingerprint().to_bits(), hash.finish());
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
