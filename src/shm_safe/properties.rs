//! Properties of the bytes of a type, computed at compile time.

/// The size in bytes of the units in which memory is copied. Each is at a multiple of
/// its size.
const WORD: usize = 8;

/// Properties of the bytes of a type.
///
/// Each is guaranteed only if it is `true`. `false` may mean that it is unknown.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeProperties {
    /// All-zero bytes are a valid value, once every sync object inside is written as an
    /// uninitialised one.
    from_zeros: bool,
    /// There is no interior mutability: a value does not change while it is shared.
    immutable: bool,
    /// A mixture of two values by aligned words of 8 bytes is a valid value.
    tear_free: bool,
}

impl TypeProperties {
    /// No property is known.
    pub const UNKNOWN: Self = Self {
        from_zeros: false,
        immutable: false,
        tear_free: false,
    };

    /// Plain data, which has all properties.
    pub const POD: Self = Self {
        from_zeros: true,
        immutable: true,
        tear_free: true,
    };

    /// Returns the properties of an enum to which no [`variant`](Self::variant) is
    /// added yet. Size and alignment in bytes are those of the discriminant.
    #[must_use]
    pub const fn of_discriminant(size: usize, align: usize) -> Self {
        Self::POD
            .without_from_zeros()
            .tear_free_if_word_sized(size, align)
    }

    /// Returns the properties of a struct with these fields.
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

    /// Returns the properties of an enum. Size and alignment in bytes are those of the
    /// discriminant.
    ///
    /// A variant is its discriminant (`None`: one more than that of the variant before
    /// it) and the properties of its fields. An enum with fields is not tear-free,
    /// because a mixture may combine the discriminant of one value with the fields of
    /// another.
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

    /// Adds a variant with the common properties of its fields.
    #[must_use]
    pub const fn variant(self, discriminant: i128, fields: Self) -> Self {
        Self {
            from_zeros: self.from_zeros || discriminant == 0 && fields.from_zeros,
            immutable: self.immutable && fields.immutable,
            tear_free: self.tear_free,
        }
    }

    /// Returns the common properties, which are those of a type that consists of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            from_zeros: self.from_zeros && other.from_zeros,
            immutable: self.immutable && other.immutable,
            tear_free: self.tear_free && other.tear_free,
        }
    }

    /// Returns the properties of a type of which all-zero bytes are invalid.
    #[must_use]
    pub const fn without_from_zeros(self) -> Self {
        Self {
            from_zeros: false,
            ..self
        }
    }

    /// Returns the properties of a type that may change while it is shared.
    #[must_use]
    pub const fn with_interior_mutability(self) -> Self {
        Self {
            immutable: false,
            ..self
        }
    }

    /// Returns the properties of a type of which a mixture of two values may be
    /// invalid.
    #[must_use]
    pub const fn without_tear_free(self) -> Self {
        Self {
            tear_free: false,
            ..self
        }
    }

    /// Returns the properties of a type of which some bytes are invalid. It is
    /// tear-free only if it lies in one word. Size and alignment are in bytes.
    #[must_use]
    pub(crate) const fn tear_free_if_word_sized(self, size: usize, align: usize) -> Self {
        if size <= WORD && size <= align {
            self
        } else {
            self.without_tear_free()
        }
    }

    /// Returns whether all-zero bytes are a valid value, once every sync object inside
    /// is written as an uninitialised one.
    #[must_use]
    pub const fn from_zeros(self) -> bool {
        self.from_zeros
    }

    /// Returns whether a value does not change while it is shared.
    #[must_use]
    pub const fn immutable(self) -> bool {
        self.immutable
    }

    /// Returns whether a mixture of two values by aligned words of 8 bytes is a valid
    /// value.
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

    fn answers(properties: TypeProperties) -> [bool; 3] {
        [
            properties.from_zeros(),
            properties.immutable(),
            properties.tear_free(),
        ]
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
    fn and_is_the_conjunction() {
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
    fn values_outside_one_word_can_tear() {
        for (size, align) in [(0, 1), (1, 1), (2, 2), (4, 4), (8, 8), (4, 8)] {
            assert_eq!(
                TypeProperties::POD.tear_free_if_word_sized(size, align),
                TypeProperties::POD
            );
        }
        for (size, align) in [(8, 4), (2, 1), (16, 16), (16, 8)] {
            let properties = TypeProperties::POD.tear_free_if_word_sized(size, align);
            assert_eq!(
                properties,
                TypeProperties::POD.without_tear_free(),
                "{size} at {align}"
            );
        }
    }

    #[test]
    fn from_zeros_needs_discriminant_zero() {
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

        // A discriminant outside one word can tear.
        assert!(one.tear_free());
        assert!(!TypeProperties::of_discriminant(16, 16).tear_free());
    }
}
