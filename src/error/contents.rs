//! The errors of the bounded types: `ShmString`, `ShmVec`.

use std::str::Utf8Error;

use thiserror::Error as ThisError;

/// What should be stored does not fit. The value is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ThisError)]
#[error("it does not fit: it needs room for {needed}, and the capacity is {capacity}")]
pub struct CapacityError {
    needed: usize,
    capacity: usize,
}

impl CapacityError {
    pub(crate) fn new(needed: usize, capacity: usize) -> Self {
        Self { needed, capacity }
    }

    /// Returns the capacity that would be enough: bytes of a `ShmString`, elements of a
    /// `ShmVec`.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Returns the capacity.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// The bytes of a bounded value are invalid, because a faulty program has written them,
/// or because they were copied without the lock while a process changed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum InvalidContents {
    /// The length exceeds the capacity.
    #[error("the stored length is {len}, and the capacity is {capacity}")]
    Length {
        /// The stored length.
        len: usize,
        /// The capacity.
        capacity: usize,
    },
    /// The bytes of a text are not UTF-8.
    #[error("the stored text is not UTF-8")]
    Utf8(#[source] Utf8Error),
}
