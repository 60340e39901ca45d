//! The order of stores, and the field that commits a change.

use std::sync::atomic::{Ordering, compiler_fence};

/// Prevents the compiler from moving stores across this call. The processor keeps the
/// order of a dead thread's stores.
pub(super) fn keep_store_order() {
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
