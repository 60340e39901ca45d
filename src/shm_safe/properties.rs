//! What holds of all values of a type, as bytes: computed at compile time.

/// How large the pieces are in which memory is copied, in bytes. A piece lies at
/// a multiple of its size.
const WORD: usize = 8;

/// What holds of the values of a type, as bytes.
///
/// Each answer is a promise only if it is yes; no may mean "not known".
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeProperties {
    /// All-zero bytes are a value, once every sync object inside is made inert.
    from_zeros: bool,
    /// No interior mutability: what is only shared never changes.
    immutable: bool,
    /// A mixture of two values, put together from their aligned words of 8 bytes,
    /// is a value.
    tear_free: bool,
}

impl TypeProperties {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self {
        from_zeros: false,
        immutable: false,
        tear_free: false,
    };

    /// Plain data: everything holds.
    pub const POD: Self = Self {
        from_zeros: true,
        immutable: true,
        tear_free: true,
    };

    /// An enum without variants yet, whose discriminant has this layout. A variant
    /// that has fields can tear: the discriminant of one value may meet the
    /// fields of another.
    #[must_use]
    pub const fn of_discriminant(size: usize, align: usize) -> Self {
        Self::POD
            .without_from_zeros()
            .tear_free_if_word_sized(size, align)
    }

    /// Returns what holds of a struct with these fields.
    #[must_use]
    pub const fn of_fields(fields: &[Self]) -> Self {
        let mut all = Self::POD;
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
                all = all.without_tear_free();
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
            from_zeros: self.from_zeros || discriminant == 0 && fields.from_zeros,
            immutable: self.immutable && fields.immutable,
            tear_free: self.tear_free,
        }
    }

    /// What holds of both, and so of a type that consists of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            from_zeros: self.from_zeros && other.from_zeros,
            immutable: self.immutable && other.immutable,
            tear_free: self.tear_free && other.tear_free,
        }
    }

    /// The same, but all-zero bytes are no value.
    #[must_use]
    pub const fn without_from_zeros(self) -> Self {
        Self {
            from_zeros: false,
            ..self
        }
    }

    /// The same, but a value may change while it is shared.
    #[must_use]
    pub const fn with_interior_mutability(self) -> Self {
        Self {
            immutable: false,
            ..self
        }
    }

    /// The same, but a mixture of two values may be none.
    #[must_use]
    pub const fn without_tear_free(self) -> Self {
        Self {
            tear_free: false,
            ..self
        }
    }

    /// The same, for a type of this layout that not all bytes are a value of: only
    /// what lies in one word is copied whole.
    #[must_use]
    pub(crate) const fn tear_free_if_word_sized(self, size: usize, align: usize) -> Self {
        if size <= WORD && size <= align {
            self
        } else {
            self.without_tear_free()
        }
    }

    /// Whether all-zero bytes are a value, once every sync object inside is made
    /// inert.
    #[must_use]
    pub const fn from_zeros(self) -> bool {
        self.from_zeros
    }

    /// Whether a shared value never changes.
    #[must_use]
    pub const fn immutable(self) -> bool {
        self.immutable
    }

    /// Whether a mixture of two values is a value, if each aligned word of 8 bytes
    /// is from one of them.
    #[must_use]
    pub const fn tear_free(self) -> bool {
        self.tear_free
    }
}

#[cfg(test)]
mod tests {
    use super::TypeProperties;

    const ALL: [TypeProperties; 8] = {
        const P: TypeProperties = TypeProperties::POD;
        [
            P,
            P.without_from_zeros(),
            P.with_interior_mutability(),
            P.without_tear_free(),
            P.without_from_zeros().with_interior_mutability(),
            P.without_from_zeros().without_tear_free(),
            P.with_interior_mutability().without_tear_free(),
            P.without_from_zeros()
                .with_interior_mutability()
                .without_tear_free(),
        ]
    };

    fn answers(nature: TypeProperties) -> [bool; 3] {
        [nature.from_zeros(), nature.immutable(), nature.tear_free()]
    }

    #[test]
    fn smoke() {
        assert_eq!(answers(TypeProperties::POD), [true; 3]);
        assert_eq!(answers(TypeProperties::UNKNOWN), [false; 3]);
        assert_eq!(
            answers(TypeProperties::POD.without_from_zeros()),
            [false, true, true]
        );
        assert_eq!(
            answers(TypeProperties::POD.with_interior_mutability()),
            [true, false, true]
        );
        assert_eq!(
            answers(TypeProperties::POD.without_tear_free()),
            [true, true, false]
        );
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
            assert_eq!(one.and(TypeProperties::POD), one);
            assert_eq!(one.and(TypeProperties::UNKNOWN), TypeProperties::UNKNOWN);
        }
    }

    #[test]
    fn what_is_longer_than_a_word_or_lies_across_two_can_tear() {
        for (size, align) in [(0, 1), (1, 1), (2, 2), (4, 4), (8, 8), (4, 8)] {
            assert_eq!(
                TypeProperties::POD.tear_free_if_word_sized(size, align),
                TypeProperties::POD
            );
        }
        for (size, align) in [(8, 4), (2, 1), (16, 16), (16, 8)] {
            let nature = TypeProperties::POD.tear_free_if_word_sized(size, align);
            assert_eq!(
                nature,
                TypeProperties::POD.without_tear_free(),
                "{size} at {align}"
            );
        }
    }

    #[test]
    fn zero_is_the_variant_with_discriminant_zero() {
        let none = TypeProperties::of_discriminant(1, 1);
        assert_eq!(none, TypeProperties::POD.without_from_zeros());
        let plain = TypeProperties::POD;
        let one = none.variant(1, plain);
        assert_eq!(one, none);
        assert_eq!(one.variant(0, plain), plain);
        assert_eq!(none.variant(0, plain).variant(-1, plain), plain);

        let inhabited = none.variant(0, plain.without_from_zeros());
        assert!(!inhabited.from_zeros());
        assert!(
            none.variant(0, plain.with_interior_mutability())
                .from_zeros()
        );
        assert!(
            !none
                .variant(0, plain.with_interior_mutability())
                .immutable()
        );
        assert!(
            !none
                .variant(7, plain.with_interior_mutability())
                .immutable()
        );

        // The discriminant is one word, or it can tear itself.
        assert!(one.tear_free());
        assert!(!TypeProperties::of_discriminant(16, 16).tear_free());
    }
}
