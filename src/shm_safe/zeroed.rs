//! A value of zeros, for types of which zeros are a value.

use std::mem::MaybeUninit;

use crate::shm_safe::marker::ShmSafe;

/// Returns the value whose bytes are all zero. Does not compile if zeros may be
/// invalid.
pub(crate) const fn zeroed<T: ShmSafe + Copy>() -> T {
    const {
        assert!(
            T::PROPERTIES.from_zeros() && T::SYNC_OBJECTS == 0,
            "all-zero bytes must be a valid element: `NonZero` numbers and enums without a \
             variant 0 are not"
        );
    }
    // SAFETY: `from_zeros` promises that zeros are a valid value with uninitialised
    // sync objects, and there are none.
    unsafe { MaybeUninit::zeroed().assume_init() }
}
