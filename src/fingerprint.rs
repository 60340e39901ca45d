//! A structural hash of a type, computed at compile time.

use std::fmt;

/// A hash over the structure of a type: its field names, their types, offsets
/// and sizes, all the way down.
///
/// Two programs that agree on it lay the type out alike. It ignores the type's
/// own name and module, so that one declaration may live in two crates.
///
/// The hash is FNV-1a with 64 bits. It guards against accident, not malice.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl Fingerprint {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;

    /// Begins with what kind of type it is, and its size and alignment in bytes.
    #[doc(hidden)]
    #[must_use]
    pub const fn of(kind: &str, size: usize, align: usize) -> Self {
        Self(Self::OFFSET_BASIS)
            .text(kind)
            .number(size as u64)
            .number(align as u64)
    }

    /// Adds a field: its name, its offset in bytes, and its type's fingerprint.
    #[doc(hidden)]
    #[must_use]
    pub const fn field(self, name: &str, offset: usize, of: Self) -> Self {
        self.text(name).number(offset as u64).number(of.0)
    }

    /// Adds a variant of an enum: its name and discriminant.
    #[doc(hidden)]
    #[must_use]
    pub const fn variant(self, name: &str, discriminant: i128) -> Self {
        self.text(name)
            .number(discriminant as u64)
            .number((discriminant >> 64) as u64)
    }

    /// The hash as a number, as headers keep it.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The length goes first, so that ("ab", "c") is not ("a", "bc").
    const fn text(self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut hash = self.number(bytes.len() as u64).0;
        let mut i = 0;
        while i < bytes.len() {
            hash = (hash ^ bytes[i] as u64).wrapping_mul(Self::PRIME);
            i += 1;
        }
        Self(hash)
    }

    const fn number(self, number: u64) -> Self {
        let bytes = number.to_le_bytes();
        let mut hash = self.0;
        let mut i = 0;
        while i < bytes.len() {
            hash = (hash ^ bytes[i] as u64).wrapping_mul(Self::PRIME);
            i += 1;
        }
        Self(hash)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::Fingerprint;

    #[test]
    fn smoke() {
        let a = Fingerprint::of("u32", 4, 4);
        assert_eq!(a, Fingerprint::of("u32", 4, 4));
        assert_ne!(a, Fingerprint::of("i32", 4, 4));
        assert_ne!(a, Fingerprint::of("u32", 4, 8));
    }

    #[test]
    fn every_part_of_a_field_counts() {
        let word = Fingerprint::of("u32", 4, 4);
        let base = Fingerprint::of("struct", 8, 4);
        let one = base.field("a", 0, word);
        assert_ne!(one, base);
        assert_ne!(one, base.field("b", 0, word));
        assert_ne!(one, base.field("a", 4, word));
        assert_ne!(one, base.field("a", 0, Fingerprint::of("i32", 4, 4)));
    }

    #[test]
    fn names_do_not_run_together() {
        let unit = Fingerprint::of("()", 0, 1);
        let base = Fingerprint::of("enum", 1, 1);
        assert_ne!(
            base.field("ab", 0, unit).variant("c", 0),
            base.field("a", 0, unit).variant("bc", 0)
        );
    }
}
