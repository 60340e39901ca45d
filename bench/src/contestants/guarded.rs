//! A lock that knows nothing of its data, and the data.

use std::cell::UnsafeCell;

use crate::shared::Zeroed;

/// A lock, and right behind it the number that it guards.
#[derive(Debug)]
#[repr(C, align(64))]
pub(super) struct Guarded<L> {
    pub(super) lock: L,
    value: UnsafeCell<u64>,
}

impl<L> Guarded<L> {
    /// The number.
    ///
    /// # Safety
    ///
    /// The caller holds the lock for as long as it uses the reference, and has no
    /// other.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "the lock sees to it that there is one")]
    pub(super) unsafe fn value(&self) -> &mut u64 {
        // SAFETY: the caller holds the lock, so nobody else has a reference.
        unsafe { &mut *self.value.get() }
    }
}

// SAFETY: the number is only touched by who holds the lock.
unsafe impl<L: Sync> Sync for Guarded<L> {}
// SAFETY: zeros are a lock, by its own bound, and zeros are a number.
unsafe impl<L: Zeroed> Zeroed for Guarded<L> {}

/// A place for what somebody else initialises, by a pointer.
#[derive(Debug)]
#[repr(transparent)]
pub(super) struct Foreign<T>(UnsafeCell<T>);

impl<T> Foreign<T> {
    #[inline]
    pub(super) fn get(&self) -> *mut T {
        self.0.get()
    }
}

// SAFETY: it lends nothing but a pointer.
unsafe impl<T> Sync for Foreign<T> {}
// SAFETY: it is a place, of which nothing is read here: whoever initialises it need not
// care what it was.
unsafe impl<T> Zeroed for Foreign<T> {}

// SAFETY: there is nothing in it.
unsafe impl Zeroed for () {}
