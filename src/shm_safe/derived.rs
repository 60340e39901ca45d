//! Items for the code of the derive macro.

use std::marker::PhantomData;

/// Returns the sum of the numbers.
#[doc(hidden)]
#[must_use]
pub const fn sum(numbers: &[usize]) -> usize {
    let mut sum = 0;
    let mut rest = numbers;
    while let [number, after @ ..] = rest {
        sum += *number;
        rest = after;
    }
    sum
}

/// A reference to a value of exactly this type. No coercion and no subtyping turns it
/// into a `TypeOf` of another type.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct TypeOf<'a, T: ?Sized> {
    /// The value.
    pub value: &'a T,
    /// Makes `T` invariant.
    pub exactly: PhantomData<*mut T>,
}
