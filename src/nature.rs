//! What holds of all values of a type, as bytes: computed at compile time.

/// How large the pieces are in which memory is copied, in bytes. A piece lies at
/// a multiple of its size.
const WORD: usize = 8;

/// What holds of the values of a type, as bytes.
///
/// Each answer is a promise only if it is yes; no may mean "not known".
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nature {
    /// All-zero bytes are a value, once every sync object inside is made inert.
    zero_is_valid: bool,
    /// No interior mutability: what is only shared never changes.
    frozen: bool,
    /// A mixture of two values, put together from their aligned words of 8 bytes,
    /// is a value.
    untearable: bool,
}

impl Nature {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        zero_is_valid: false,
        frozen: false,
        untearable: false,
    };

    /// Plain data: everything holds.
    pub const PLAIN: Self = Self {
        zero_is_valid: true,
        frozen: true,
        untearable: true,
    };

    /// An enum without variants yet, whose discriminant has this layout. A variant
    /// that has fields can tear: the discriminant of one value may meet the
    /// fields of another.
    #[must_use]
    pub const fn of_discriminant(size: usize, align: usize) -> Self {
        Self::PLAIN.without_zero().in_pieces(size, align)
    }

    /// Returns what holds of a struct with these fields.
    #[must_use]
    pub const fn of_fields(fields: &[Self]) -> Self {
        let mut all = Self::PLAIN;
        let mut rest = fields;
        while let [field, after @ ..] = rest {
            all = all.and(*field);
            rest = after;
        }
        all
    }

    /// Returns what holds of an enum whose discriminant has this layout.
    ///
    /// A variant is its discriminant (if not given, one more than that of the variant
    /// before it), and what holds of each of its fields.
    #[must_use]
    pub const fn of_variants(
        size: usize,
        align: usize,
        variants: &[(Option<i128>, &[Self])],
    ) -> Self {
        let mut all = Self::of_discriminant(size, align);
        let mut discriminant = -1_i128;
        let mut rest = variants;
        while let [(given, fields), after @ ..] = rest {
            discriminant = match *given {
                Some(given) => given,
                None => discriminant.wrapping_add(1),
            };
            if !fields.is_empty() {
                all = all.tearable();
            }
            all = all.variant(discriminant, Self::of_fields(fields));
            rest = after;
        }
        all
    }

    /// Adds a variant: its discriminant, and what holds of all its fields.
    #[must_use]
    pub const fn variant(self, discriminant: i128, fields: Self) -> Self {
        Self {
            zero_is_valid: self.zero_is_valid || discriminant == 0 && fields.zero_is_valid,
            frozen: self.frozen && fields.frozen,
            untearable: self.untearable,
        }
    }

    /// What holds of both, and so of a type that consists of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            zero_is_valid: self.zero_is_valid && other.zero_is_valid,
            frozen: self.frozen && other.frozen,
            untearable: self.untearable && other.untearable,
        }
    }

    /// The same, but all-zero bytes are no value.
    #[must_use]
    pub const fn without_zero(self) -> Self {
        Self {
            zero_is_valid: false,
            ..self
        }
    }

    /// The same, but a value may change while it is shared.
    #[must_use]
    pub const fn shared(self) -> Self {
        Self {
            frozen: false,
            ..self
        }
    }

    /// The same, but a mixture of two values may be none.
    #[must_use]
    pub const fn tearable(self) -> Self {
        Self {
            untearable: false,
            ..self
        }
    }

    /// The same, for a type of this layout that not all bytes are a value of: only
    /// what lies in one word is copied whole.
    #[must_use]
    pub(crate) const fn in_pieces(self, size: usize, align: usize) -> Self {
        if size <= WORD && size <= align {
            self
        } else {
            self.tearable()
        }
    }

    /// Whether all-zero bytes are a value, once every sync object inside is made
    /// inert.
    #[must_use]
    pub const fn zero_is_valid(self) -> bool {
        self.zero_is_valid
    }

    /// Whether a shared value never changes.
    #[must_use]
    pub const fn is_frozen(self) -> bool {
        self.frozen
    }

    /// Whether a mixture of two values is a value, if each aligned word of 8 bytes
    /// is from one of them.
    #[must_use]
    pub const fn is_untearable(self) -> bool {
        self.untearable
    }
}

#[cfg(test)]
mod tests {
    use super::Nature;

    const ALL: [Nature; 8] = {
        const P: Nature = Nature::PLAIN;
        [
            P,
            P.without_zero(),
            P.shared(),
            P.tearable(),
            P.without_zero().shared(),
            P.without_zero().tearable(),
            P.shared().tearable(),
            P.without_zero().shared().tearable(),
        ]
    };

    fn answers(nature: Nature) -> [bool; 3] {
        [
            nature.zero_is_valid(),
            nature.is_frozen(),
            nature.is_untearable(),
        ]
    }

    #[test]
    fn smoke() {
        assert_eq!(answers(Nature::PLAIN), [true; 3]);
        assert_eq!(answers(Nature::UNKNOWN), [false; 3]);
        assert_eq!(answers(Nature::PLAIN.without_zero()), [false, true, true]);
        assert_eq!(answers(Nature::PLAIN.shared()), [true, false, true]);
        assert_eq!(answers(Nature::PLAIN.tearable()), [true, true, false]);
    }

    #[test]
    fn what_holds_of_both_holds_of_each() {
        for one in ALL {
            for other in ALL {
                let both = one.and(other);
                let each = answers(one).into_iter().zip(answers(other));
                let expected: Vec<bool> = each.map(|(a, b)| a && b).collect();
                assert_eq!(answers(both)[..], expected, "{one:?} and {other:?}");
                assert_eq!(both, other.and(one));
            }
            assert_eq!(one.and(Nature::PLAIN), one);
            assert_eq!(one.and(Nature::UNKNOWN), Nature::UNKNOWN);
        }
    }

    #[test]
    fn what_is_longer_than_a_word_or_lies_across_two_can_tear() {
        for (size, align) in [(0, 1), (1, 1), (2, 2), (4, 4), (8, 8), (4, 8)] {
            assert_eq!(Nature::PLAIN.in_pieces(size, align), Nature::PLAIN);
        }
        for (size, align) in [(8, 4), (2, 1), (16, 16), (16, 8)] {
            let nature = Nature::PLAIN.in_pieces(size, align);
            assert_eq!(nature, Nature::PLAIN.tearable(), "{size} at {align}");
        }
    }

    #[test]
    fn zero_is_the_variant_with_discriminant_zero() {
        let none = Nature::of_discriminant(1, 1);
        assert_eq!(none, Nature::PLAIN.without_zero());
        let plain = Nature::PLAIN;
        let one = none.variant(1, plain);
        assert_eq!(one, none);
        assert_eq!(one.variant(0, plain), plain);
        assert_eq!(none.variant(0, plain).variant(-1, plain), plain);

        let inhabited = none.variant(0, plain.without_zero());
        assert!(!inhabited.zero_is_valid());
        assert!(none.variant(0, plain.shared()).zero_is_valid());
        assert!(!none.variant(0, plain.shared()).is_frozen());
        assert!(!none.variant(7, plain.shared()).is_frozen());

        // The discriminant is one word, or it can tear itself.
        assert!(one.is_untearable());
        assert!(!Nature::of_discriminant(16, 16).is_untearable());
    }
}
