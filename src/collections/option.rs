//! `ShmOption`: a value that may be missing.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem::offset_of;

use super::commit::commit;
use crate::shm_safe::{Parts, ShmSafe, TearFree, TypeProperties, zeroed};

/// An `Option` with a fixed layout.
///
/// The layout of std's `Option` may change with the compiler. Convert with `From` and
/// `Into`. The value is `Copy`, so it contains no locks, and all-zero bytes must be a
/// valid value.
///
/// ```
/// use shm_sync::{Segment, ShmMutex, ShmOption, ShmSafe};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Job {
///     parent: ShmOption<u64>,
/// }
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// let job = Segment::anonymous(ShmMutex::new(Job { parent: None.into() }))?;
/// let mut job = job.lock()?;
/// job.parent.set(Some(7));
/// assert_eq!(job.parent.get(), Some(7));
/// if let Some(parent) = job.parent.as_mut() {
///     *parent += 1;
/// }
/// assert_eq!(job.parent.take(), Some(8));
/// assert!(job.parent.is_none());
/// # Ok(())
/// # }
/// ```
///
/// # Crash behaviour
///
/// A process that is killed in [`set`](Self::set) or [`take`](Self::take) leaves no
/// value, the old value or the new value, but no mixture. An assignment of a whole
/// `ShmOption`, or a change through [`as_mut`](Self::as_mut), may be left half done.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ShmOption<T: ShmSafe + Copy> {
    /// 0 if there is no value.
    is_some: u8,
    value: T,
}

// SAFETY:
// * `repr(C)` fixes the layout, and the fingerprint covers the fields and the size.
// * The value is `ShmSafe`. There is no destructor, because it is `Copy`.
// * There are no sync objects, because none is `Copy`.
// * Properties: those of the value, because any byte is a valid `is_some`.
unsafe impl<T: ShmSafe + Copy> ShmSafe for ShmOption<T> {
    const PARTS: Parts = Parts {
        kind: "ShmOption",
        size: size_of::<Self>(),
        align: align_of::<Self>(),
        fields: &[
            ("is_some", offset_of!(Self, is_some), u8::DESCRIPTION),
            ("value", offset_of!(Self, value), T::DESCRIPTION),
        ],
        variants: &[],
    };
    const PROPERTIES: TypeProperties = T::PROPERTIES;
}

// SAFETY: a mixture has some byte, and a mixture of the values.
unsafe impl<T: ShmSafe + Copy + TearFree> TearFree for ShmOption<T> {}

impl<T: ShmSafe + Copy> ShmOption<T> {
    /// Returns an option without a value.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            is_some: 0,
            value: zeroed(),
        }
    }

    /// Returns an option with a value.
    #[must_use]
    pub const fn some(value: T) -> Self {
        Self { is_some: 1, value }
    }

    /// Returns the value.
    #[must_use]
    pub const fn get(&self) -> Option<T> {
        if self.is_some() {
            Some(self.value)
        } else {
            None
        }
    }

    /// Replaces the value.
    pub fn set(&mut self, value: Option<T>) {
        commit(&mut self.is_some, 0);
        if let Some(value) = value {
            self.value = value;
            commit(&mut self.is_some, 1);
        }
    }

    /// Removes the value and returns it.
    pub fn take(&mut self) -> Option<T> {
        let value = self.get();
        commit(&mut self.is_some, 0);
        value
    }

    /// Returns whether there is a value.
    #[must_use]
    pub const fn is_some(&self) -> bool {
        self.is_some != 0
    }

    /// Returns whether there is no value.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        !self.is_some()
    }

    /// Returns a reference to the value.
    #[must_use]
    pub fn as_ref(&self) -> Option<&T> {
        self.is_some().then_some(&self.value)
    }

    /// Returns a mutable reference to the value.
    #[must_use]
    pub fn as_mut(&mut self) -> Option<&mut T> {
        self.is_some().then_some(&mut self.value)
    }
}

impl<T: ShmSafe + Copy> Default for ShmOption<T> {
    fn default() -> Self {
        Self::none()
    }
}

impl<T: ShmSafe + Copy> From<Option<T>> for ShmOption<T> {
    fn from(option: Option<T>) -> Self {
        option.map_or(Self::none(), Self::some)
    }
}

impl<T: ShmSafe + Copy> From<T> for ShmOption<T> {
    fn from(value: T) -> Self {
        Self::some(value)
    }
}

impl<T: ShmSafe + Copy> From<ShmOption<T>> for Option<T> {
    fn from(option: ShmOption<T>) -> Self {
        option.get()
    }
}

impl<T: ShmSafe + Copy + fmt::Debug> fmt::Debug for ShmOption<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl<T: ShmSafe + Copy + PartialEq> PartialEq for ShmOption<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<T: ShmSafe + Copy + Eq> Eq for ShmOption<T> {}

impl<T: ShmSafe + Copy + PartialEq> PartialEq<Option<T>> for ShmOption<T> {
    fn eq(&self, other: &Option<T>) -> bool {
        self.get() == *other
    }
}

impl<T: ShmSafe + Copy + PartialOrd> PartialOrd for ShmOption<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.get().partial_cmp(&other.get())
    }
}

impl<T: ShmSafe + Copy + Ord> Ord for ShmOption<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.get().cmp(&other.get())
    }
}

impl<T: ShmSafe + Copy + Hash> Hash for ShmOption<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.get().hash(state);
    }
}

#[cfg(feature = "serde")]
impl<T: ShmSafe + Copy + serde::Serialize> serde::Serialize for ShmOption<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.get().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;

    #[test]
    fn smoke() {
        let mut option = ShmOption::<u32>::default();
        assert_eq!((option.get(), option.as_ref()), (None, None));
        option.set(Some(3));
        assert_eq!(option, Some(3));
        *option.as_mut().unwrap() += 1;
        assert_eq!(Option::from(option), Some(4));
        assert_eq!((option.take(), option.take()), (Some(4), None));
        assert_eq!(option, ShmOption::none(), "the old value does not count");
        assert!(ShmOption::from(0) > ShmOption::none());
        assert_eq!(format!("{:?}", ShmOption::some(1)), "Some(1)");
    }

    #[test]
    fn any_byte_but_zero_is_some() {
        let option = ShmOption {
            is_some: 255,
            value: 7_u8,
        };
        assert_eq!(option, Some(7));
        assert_eq!(option, ShmOption::some(7));
    }

    #[test]
    fn numbers_are_documented() {
        type Pair = ShmOption<[u64; 2]>;
        documented::fields!("ShmOption", Pair { is_some, value }, [("T", 16)]);
    }
}
