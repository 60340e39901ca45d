//! A lock that does not contain its data, beside the data.

use std::cell::UnsafeCell;

use crate::shared::Zeroed;

/// A lock, and directly behind it the number that it guards.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Guarded<L> {
    pub(super) lock: L,
    value: UnsafeCell<u64>,
}

impl<L> Guarded<L> {
    /// Returns the number.
    ///
    /// # Safety
    ///
    /// * The caller holds the lock as long as it uses the reference.
    /// * The caller has no other reference to the number.
    #[inline]
    #[expect(
        clippy::mut_from_ref,
        reason = "the holder of the lock has the only reference"
    )]
    pub(super) unsafe fn value(&self) -> &mut u64 {
        // SAFETY: the caller holds the lock, so no other worker has a reference. The
        // caller has no other reference either.
        unsafe { &mut *self.value.get() }
    }
}

// SAFETY: only the holder of the lock accesses the number, by the contract of `value`.
unsafe impl<L: Sync> Sync for Guarded<L> {}
// SAFETY: zeros are a valid lock by the bound, and a valid number. Neither refers to a
// process.
unsafe impl<L: Zeroed> Zeroed for Guarded<L> {}

/// Memory for an object that another library initialises and uses by pointer.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct ForeignObject<T>(UnsafeCell<T>);

impl<T> ForeignObject<T> {
    #[inline]
    pub(super) fn get(&self) -> *mut T {
        self.0.get()
    }
}

// SAFETY: it only lends a raw pointer.
unsafe impl<T> Sync for ForeignObject<T> {}
// SAFETY: the other library initialises the memory before the first use, so its first
// contents do not matter. They refer to no process.
unsafe impl<T> Zeroed for ForeignObject<T> {}

// SAFETY: the unit type has one value and refers to nothing.
unsafe impl Zeroed for () {}
