//! How a change of a bounded value takes effect.

use std::sync::atomic::{Ordering, compiler_fence};

/// Stores to the field that says how much of the value counts.
///
/// The stores of the program before the call come before it, and the stores after the
/// call come after it. The fences prevent the compiler from moving them. They need no
/// order for other processors, because a thread that locks after a death sees all
/// stores of the dead thread.
pub(super) fn commit<T>(field: &mut T, value: T) {
    compiler_fence(Ordering::SeqCst);
    *field = value;
    compiler_fence(Ordering::SeqCst);
}

/// Converts a capacity to the type of the field that holds a length.
pub(super) const fn length_field(capacity: usize) -> u32 {
    assert!(
        capacity <= u32::MAX as usize,
        "a capacity is less than 2^32"
    );
    capacity as u32
}
