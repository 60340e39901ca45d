//! The trait of arrays of locks.

use crate::failure::Failure;

/// Locks that each guard a number.
pub(super) trait LockArray: Sized {
    const NAME: &'static str;

    fn create(len: usize) -> Result<Self, Failure>;

    /// Maps the same memory again.
    fn attach(&self) -> Result<Self, Failure>;

    /// Locks the lock at `index`, adds one and unlocks. Returns the number before.
    fn add_one(&self, index: usize) -> Result<u64, Failure>;
}
