//! The types for which memory that other processes change holds valid values.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

/// Types of values in memory that other processes may change: see
/// [`Mapping::get`](super::Mapping::get).
///
/// # Safety
///
/// * Every sequence of `size_of::<Self>()` bytes is a valid value.
/// * All bytes are inside `UnsafeCell`s, as those of atomics. Safe methods read and
///   change them only by atomic operations.
pub(crate) unsafe trait AnyBytes {}

// SAFETY: every integer is a valid value, and the methods are atomic.
unsafe impl AnyBytes for AtomicU8 {}
// SAFETY: every integer is a valid value, and the methods are atomic.
unsafe impl AnyBytes for AtomicU16 {}
// SAFETY: every integer is a valid value, and the methods are atomic.
unsafe impl AnyBytes for AtomicU32 {}
// SAFETY: every integer is a valid value, and the methods are atomic.
unsafe impl AnyBytes for AtomicU64 {}
// SAFETY: an array consists of its elements, without padding.
unsafe impl<T: AnyBytes, const N: usize> AnyBytes for [T; N] {}
