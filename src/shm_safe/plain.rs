//! `Plain`: plain data of another crate.

use std::fmt;
use std::ops::{Deref, DerefMut};

use bytemuck::AnyBitPattern;

use crate::shm_safe::description::Parts;
use crate::shm_safe::marker::ShmSafe;
use crate::shm_safe::properties::TypeProperties;
use crate::shm_safe::tear_free::TearFree;

/// A value of a type of another crate that is plain data by the rules of `bytemuck`
/// (feature `bytemuck`).
///
/// Your crate can't implement [`ShmSafe`] for a type that it does not define.
/// `Plain<T>` is `ShmSafe` for every `T` that is [`bytemuck::AnyBitPattern`], `Send`
/// and `Sync`, and so for nearly every `bytemuck::Pod`: `uuid::Uuid`, the vectors of
/// `glam` and the numbers of `half` (each with that crate's feature `bytemuck`), and
/// `Option<NonZero<u64>>` of std.
///
/// ```
/// use std::num::NonZero;
/// use shm_sync::{Plain, Segment, ShmMutex, ShmSafe};
///
/// // As `uuid` defines it.
/// #[derive(bytemuck::Pod, bytemuck::Zeroable, Clone, Copy, Debug, PartialEq)]
/// #[repr(transparent)]
/// struct Uuid([u8; 16]);
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Job {
///     id: Plain<Uuid>,
///     parent: Plain<Option<NonZero<u64>>>,
/// }
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let job = Job { id: Uuid([7; 16]).into(), parent: Plain(None) };
/// let job = Segment::anonymous(ShmMutex::new(job))?;
/// let mut job = job.lock()?;
/// job.parent = NonZero::new(9).into();
/// assert_eq!(job.id, Plain(Uuid([7; 16])));
/// assert_eq!(job.parent.map(NonZero::get), Some(9));
/// # Ok(())
/// # }
/// ```
///
/// A type with invalid bytes is no `AnyBitPattern`, nor is one with a pointer or a
/// cell:
///
/// ```compile_fail,E0277
/// use shm_sync::{Plain, Segment};
///
/// let duration = Segment::anonymous(Plain(std::time::Duration::ZERO));
/// ```
///
/// In the guide:
/// [types of std and of other crates](crate::guide#types-of-std-and-of-other-crates).
///
/// # Fingerprints
///
/// The inside of a foreign type is unknown, and its name is not available at compile
/// time. The [`Fingerprint`](crate::Fingerprint) of `Plain<T>` covers the size and the
/// alignment of `T`, and nothing else. Two programs can open one segment although
///
/// * one has `Plain<Uuid>` where the other has another type of 16 bytes with the same
///   alignment,
/// * two versions of the other crate order the fields of `T` differently, or give them
///   another meaning.
///
/// The programs then read wrong values. This is no undefined behaviour, because all
/// bytes are a valid `T`. The fingerprint of a derived struct covers the names of its
/// fields. So put the name, and if need be the version, into that of the field: `uuid`
/// or `matrix_v2`.
///
/// # Padding
///
/// A `T` may have padding. Its bytes in the segment are those that the compiler happens
/// to copy, for example old data of the writer's stack. Don't use such a type where the
/// readers must not see them.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Plain<T>(pub T);

// SAFETY: the clauses of `ShmSafe`, by the safety section of `AnyBitPattern`:
// * Layout: the size and the alignment are in the fingerprint. The rest of the layout
//   need not be fixed, because any bytes are a valid T. That also makes bytes of every
//   type with this fingerprint valid. Padding of a T is in memory that the kernel has
//   initialised, and another program reads it through a mapping of its own.
// * Values contain no pointer. A T is `Copy`, so it has no destructor.
// * Sync objects: none, because T contains no interior mutability.
// * Properties: any bytes are valid, so zeros and mixtures are. "A shared reference to
//   the type must allow reads, and only reads", so values are immutable.
unsafe impl<T: AnyBitPattern + Send + Sync> ShmSafe for Plain<T> {
    const PARTS: Parts = Parts::opaque("Plain", size_of::<Self>(), align_of::<Self>());
    const PROPERTIES: TypeProperties = TypeProperties::POD;
}

// SAFETY: any bytes are a valid value.
unsafe impl<T: AnyBitPattern> TearFree for Plain<T> {}

impl<T> Deref for Plain<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Plain<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T> From<T> for Plain<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T: fmt::Debug> fmt::Debug for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZero;

    #[derive(bytemuck::AnyBitPattern, Clone, Copy, Debug, PartialEq)]
    #[repr(C)]
    struct Padded {
        small: u8,
        large: u32,
    }

    #[test]
    fn smoke() {
        let mut plain = Plain::from(Padded { small: 1, large: 2 });
        plain.large += 1;
        let copy = plain;
        assert_eq!(*copy, Padded { small: 1, large: 3 });
        assert_eq!(format!("{:?}", Plain(7_u8)), "7");
        assert_eq!(Plain(7_u8).to_string(), "7");
        assert!(Plain(1_u8) < Plain(2) && Plain::<u8>::default() == Plain(0));
    }

    #[test]
    fn fingerprint_shows_size_and_alignment_only() {
        let of_u32 = Plain::<u32>::FINGERPRINT;
        assert_ne!(of_u32, u32::FINGERPRINT);
        assert_ne!(of_u32, Plain::<u64>::FINGERPRINT, "the size is hashed");
        assert_ne!(
            of_u32,
            Plain::<[u8; 4]>::FINGERPRINT,
            "the alignment is hashed"
        );
        assert_eq!(
            of_u32,
            Plain::<i32>::FINGERPRINT,
            "the documentation says so"
        );
    }

    #[test]
    fn plain_data_has_all_properties() {
        assert_eq!(Plain::<Padded>::PROPERTIES, TypeProperties::POD);
        assert_eq!(Plain::<Padded>::SYNC_OBJECTS, 0);
        let id = Plain::<Option<NonZero<u64>>>::PROPERTIES;
        assert_eq!(id, TypeProperties::POD, "zeros are `None`");
    }
}
