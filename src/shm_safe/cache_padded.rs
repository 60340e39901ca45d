//! `CachePadded`: a value with cache lines of its own.

use std::fmt;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};

use crate::shm_safe::description::Parts;
use crate::shm_safe::marker::ShmSafe;
use crate::shm_safe::properties::TypeProperties;
use crate::shm_safe::visit::{FieldPath, Visitor};

/// Puts a value on cache lines of its own: aligned to 128 bytes, and a multiple of 128
/// bytes in size.
///
/// A processor that writes to a cache line takes it from all others. Two locks on one
/// line therefore slow each other down, although no thread wants both. So do a lock and
/// a counter that other threads read. In an array of locks for different processes,
/// wrap each:
///
/// ```
/// use shm_sync::{CachePadded, Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let slots: Segment<[CachePadded<ShmMutex<u64>>; 4]> =
///     Segment::anonymous([const { CachePadded::new(ShmMutex::new(0)) }; 4])?;
/// *slots[3].lock()? += 1;
/// assert_eq!(size_of_val(&slots[3]), 128);
/// # Ok(())
/// # }
/// ```
///
/// Data that is used together (a mutex, its small data, its condition variable) is
/// faster on one line.
///
/// A line has 64 bytes on x86-64 and on most aarch64 processors. The size here is 128,
/// because Intel processors fetch lines in pairs (*Intel 64 and IA-32 Architectures
/// Optimization Reference Manual*, "Data Prefetching": the spatial prefetcher), and
/// because the layout of a segment must not depend on the machine.
///
/// In the cookbook: [a pool of workers](crate::guide::cookbook#a-pool-of-workers).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C, align(128))]
pub struct CachePadded<T> {
    value: T,
}

const _: () = assert!(offset_of!(CachePadded<u8>, value) == 0);

// SAFETY:
// * `repr(C)` fixes the layout: one field at offset 0.
// * The fingerprint covers the field, the size and the alignment.
// * The bytes of the field have the same meaning in every process.
// * The sync objects of the field are visited at their offsets.
// * Properties: those of the field, because the rest is padding.
unsafe impl<T: ShmSafe> ShmSafe for CachePadded<T> {
    const PARTS: Parts = Parts {
        kind: "CachePadded",
        size: size_of::<Self>(),
        align: align_of::<Self>(),
        fields: &[("value", 0, T::DESCRIPTION)],
        variants: &[],
    };
    const SYNC_OBJECTS: usize = T::SYNC_OBJECTS;
    const PROPERTIES: TypeProperties = T::PROPERTIES;

    fn visit(path: &FieldPath<'_>, visitor: &mut Visitor<'_>) {
        T::visit(path, visitor);
    }
}

impl<T> CachePadded<T> {
    /// Wraps a value.
    #[must_use]
    pub const fn new(value: T) -> Self {
        Self { value }
    }

    /// Returns the value.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T> Deref for CachePadded<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for CachePadded<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T> From<T> for CachePadded<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: fmt::Display> fmt::Display for CachePadded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;
    use std::sync::atomic::AtomicU8;

    #[test]
    fn smoke() {
        let mut slots = [CachePadded::new(1_u8), CachePadded::from(2)];
        *slots[1] += 1;
        assert_eq!(format!("{} {:03}", slots[0], slots[1]), "1 003");
        assert_eq!(slots.map(CachePadded::into_inner), [1, 3]);
        assert_eq!(size_of::<[CachePadded<[u8; 129]>; 2]>(), 512);
    }

    #[test]
    fn fingerprint_differs_and_properties_are_kept() {
        assert_ne!(CachePadded::<u64>::FINGERPRINT, u64::FINGERPRINT);
        assert_ne!(
            CachePadded::<u64>::FINGERPRINT,
            CachePadded::<i64>::FINGERPRINT
        );
        assert_eq!(CachePadded::<AtomicU8>::PROPERTIES, AtomicU8::PROPERTIES);
    }

    #[test]
    fn numbers_are_documented() {
        type Pair = CachePadded<[u64; 2]>;
        documented::fields!("CachePadded", Pair { value }, [("T", 16)]);
    }
}
