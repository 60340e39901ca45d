//! `ShmVec`: a list of bounded length.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};

use super::commit::{commit, length_field};
use crate::error::{CapacityError, InvalidContents};
use crate::shm_safe::{Parts, ShmSafe, TearFree, TypeProperties, zeroed};

/// A list of at most `N` elements.
///
/// It dereferences to a slice. What does not fit is an error, and changes nothing. The
/// elements are `Copy`, so they contain no locks, and all-zero bytes must be a valid
/// element.
///
/// ```
/// use shm_sync::{Error, Segment, ShmMutex, ShmVec};
///
/// # fn main() -> Result<(), Error> {
/// let recent = Segment::anonymous(ShmMutex::new(ShmVec::<u32, 3>::new()))?;
/// let mut recent = recent.lock()?;
/// recent.try_push(7)?;
/// recent.try_extend_from_slice(&[5, 6])?;
/// recent.sort();
/// assert_eq!(*recent, [5, 6, 7]);
/// assert!(recent.try_push(8).is_err());
/// assert_eq!(recent.pop(), Some(7));
/// # Ok(())
/// # }
/// ```
///
/// # Invalid bytes
///
/// If a faulty program has stored a length above `N`, the list has `N` elements, and
/// [`try_as_slice`](Self::try_as_slice) returns an error.
///
/// # Crash behaviour
///
/// A process that is killed in [`try_push`](Self::try_push),
/// [`try_extend_from_slice`](Self::try_extend_from_slice), [`pop`](Self::pop),
/// [`truncate`](Self::truncate) or [`clear`](Self::clear) leaves the list as it was
/// before or after the call. The other changes may be left half done.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ShmVec<T: ShmSafe + Copy, const N: usize> {
    len: u32,
    /// All elements are values, also those that do not count.
    elements: [T; N],
}

// SAFETY:
// * `repr(C)` fixes the layout, and the fingerprint covers the fields and the size.
// * The elements are `ShmSafe`. There is no destructor, because they are `Copy`.
// * There are no sync objects, because none is `Copy`.
// * Properties: those of the elements, because any length is valid.
unsafe impl<T: ShmSafe + Copy, const N: usize> ShmSafe for ShmVec<T, N> {
    const PARTS: Parts = Parts {
        kind: "ShmVec",
        size: size_of::<Self>(),
        align: align_of::<Self>(),
        fields: &[
            ("len", offset_of!(Self, len), u32::DESCRIPTION),
            (
                "elements",
                offset_of!(Self, elements),
                <[T; N]>::DESCRIPTION,
            ),
        ],
        variants: &[],
    };
    const PROPERTIES: TypeProperties = <[T; N]>::PROPERTIES;
}

// SAFETY: a mixture has some length, and a mixture of the elements.
unsafe impl<T: ShmSafe + Copy + TearFree, const N: usize> TearFree for ShmVec<T, N> {}

impl<T: ShmSafe + Copy, const N: usize> ShmVec<T, N> {
    /// Returns an empty list.
    #[must_use]
    pub const fn new() -> Self {
        const { length_field(N) };
        Self {
            len: 0,
            elements: [zeroed(); N],
        }
    }

    /// Returns how many elements the list can have.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        N
    }

    /// Returns the elements, if the stored length is valid.
    ///
    /// # Errors
    ///
    /// [`InvalidContents::Length`]: the length exceeds the capacity.
    pub fn try_as_slice(&self) -> Result<&[T], InvalidContents> {
        let len = self.len as usize;
        let elements = self.elements.get(..len);
        elements.ok_or(InvalidContents::Length { len, capacity: N })
    }

    /// Appends an element.
    ///
    /// # Errors
    ///
    /// [`CapacityError`]: the list is full.
    pub fn try_push(&mut self, element: T) -> Result<(), CapacityError> {
        self.try_extend_from_slice(&[element])
    }

    /// Appends elements.
    ///
    /// # Errors
    ///
    /// [`CapacityError`]: they do not all fit. None is appended.
    pub fn try_extend_from_slice(&mut self, elements: &[T]) -> Result<(), CapacityError> {
        let len = self.len();
        // Elements of size 0 can be any number.
        let needed = len.saturating_add(elements.len());
        let room = self.elements.get_mut(len..needed);
        let room = room.ok_or(CapacityError::new(needed, N))?;
        room.copy_from_slice(elements);
        self.set_len(needed);
        Ok(())
    }

    /// Inserts an element before the element `index`.
    ///
    /// # Errors
    ///
    /// [`CapacityError`]: the list is full, or has fewer than `index` elements.
    pub fn try_insert(&mut self, index: usize, element: T) -> Result<(), CapacityError> {
        let len = self.len();
        if index > len {
            return Err(CapacityError::new(index.saturating_add(1), len));
        }
        self.try_push(element)?;
        self[index..].rotate_right(1);
        Ok(())
    }

    /// Removes the last element and returns it. Returns `None` if the list is empty.
    pub fn pop(&mut self) -> Option<T> {
        let last = *self.last()?;
        self.set_len(self.len() - 1);
        Some(last)
    }

    /// Removes the element `index` and returns it. The later elements move forward.
    /// Returns `None` if there is no such element.
    pub fn remove(&mut self, index: usize) -> Option<T> {
        self.get_mut(index..)?.get(..1)?;
        self[index..].rotate_left(1);
        self.pop()
    }

    /// Removes all elements from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.set_len(len.min(self.len()));
    }

    /// Removes all elements.
    pub fn clear(&mut self) {
        self.set_len(0);
    }

    /// Stores a length, which is at most the capacity.
    fn set_len(&mut self, len: usize) {
        let len = u32::try_from(len).unwrap_or(const { length_field(N) });
        commit(&mut self.len, len);
    }
}

impl<T: ShmSafe + Copy, const N: usize> Deref for ShmVec<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.elements[..N.min(self.len as usize)]
    }
}

impl<T: ShmSafe + Copy, const N: usize> DerefMut for ShmVec<T, N> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.elements[..N.min(self.len as usize)]
    }
}

impl<T: ShmSafe + Copy, const N: usize> Default for ShmVec<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ShmSafe + Copy, const N: usize> TryFrom<&[T]> for ShmVec<T, N> {
    type Error = CapacityError;

    fn try_from(elements: &[T]) -> Result<Self, CapacityError> {
        let mut this = Self::new();
        this.try_extend_from_slice(elements)?;
        Ok(this)
    }
}

impl<T: ShmSafe + Copy, const N: usize> From<[T; N]> for ShmVec<T, N> {
    fn from(elements: [T; N]) -> Self {
        Self {
            len: const { length_field(N) },
            elements,
        }
    }
}

impl<T: ShmSafe + Copy, const N: usize> From<ShmVec<T, N>> for Vec<T> {
    fn from(list: ShmVec<T, N>) -> Self {
        list.to_vec()
    }
}

impl<T: ShmSafe + Copy, const N: usize> AsRef<[T]> for ShmVec<T, N> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<'a, T: ShmSafe + Copy, const N: usize> IntoIterator for &'a ShmVec<T, N> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T: ShmSafe + Copy, const N: usize> IntoIterator for &'a mut ShmVec<T, N> {
    type Item = &'a mut T;
    type IntoIter = std::slice::IterMut<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<T: ShmSafe + Copy + fmt::Debug, const N: usize> fmt::Debug for ShmVec<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<T: ShmSafe + Copy + PartialEq, const N: usize, const M: usize> PartialEq<ShmVec<T, M>>
    for ShmVec<T, N>
{
    fn eq(&self, other: &ShmVec<T, M>) -> bool {
        **self == **other
    }
}

impl<T: ShmSafe + Copy + Eq, const N: usize> Eq for ShmVec<T, N> {}

impl<T: ShmSafe + Copy + PartialEq, const N: usize> PartialEq<[T]> for ShmVec<T, N> {
    fn eq(&self, other: &[T]) -> bool {
        **self == *other
    }
}

impl<T: ShmSafe + Copy + PartialEq, const N: usize, const M: usize> PartialEq<[T; M]>
    for ShmVec<T, N>
{
    fn eq(&self, other: &[T; M]) -> bool {
        **self == *other
    }
}

impl<T: ShmSafe + Copy + PartialOrd, const N: usize> PartialOrd for ShmVec<T, N> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (**self).partial_cmp(&**other)
    }
}

impl<T: ShmSafe + Copy + Ord, const N: usize> Ord for ShmVec<T, N> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl<T: ShmSafe + Copy + Hash, const N: usize> Hash for ShmVec<T, N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

#[cfg(feature = "serde")]
impl<T: ShmSafe + Copy + serde::Serialize, const N: usize> serde::Serialize for ShmVec<T, N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;
    use proptest::prelude::*;

    #[test]
    fn smoke() {
        let mut list = ShmVec::<u16, 3>::new();
        assert_eq!((list.len(), list.capacity()), (0, 3));
        list.try_extend_from_slice(&[1, 3]).unwrap();
        list.try_insert(1, 2).unwrap();
        assert_eq!(list, [1, 2, 3]);
        let error = list.try_push(4).unwrap_err();
        assert_eq!((error.needed(), error.capacity()), (4, 3));
        assert_eq!(list.remove(0), Some(1));
        assert_eq!(list.remove(2), None);
        list.iter_mut().for_each(|element| *element *= 10);
        assert_eq!(Vec::from(list), [20, 30]);
        list.truncate(5);
        list.truncate(1);
        assert_eq!(list, [20]);
        assert_eq!(list.try_insert(3, 9).unwrap_err().needed(), 4);
    }

    #[test]
    fn invalid_length_is_an_error() {
        let mut damaged = ShmVec::<u8, 2>::from([1, 2]);
        damaged.len = 3;
        let error = InvalidContents::Length {
            len: 3,
            capacity: 2,
        };
        assert_eq!(damaged.try_as_slice(), Err(error));
        assert_eq!(damaged, [1, 2]);
        assert_eq!(damaged.pop(), Some(2));
        assert_eq!(damaged.try_as_slice(), Ok(&[1][..]));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(u8),
        Extend(Vec<u8>),
        Insert(usize, u8),
        Pop,
        Remove(usize),
        Truncate(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            any::<u8>().prop_map(Step::Push),
            prop::collection::vec(any::<u8>(), 0..4).prop_map(Step::Extend),
            (0..7_usize, any::<u8>()).prop_map(|(at, new)| Step::Insert(at, new)),
            Just(Step::Pop),
            (0..7_usize).prop_map(Step::Remove),
            (0..7_usize).prop_map(Step::Truncate),
        ];
        prop::collection::vec(step, 0..20)
    }

    proptest! {
        /// It behaves as a `Vec` whose capacity is limited.
        #[test]
        fn agrees_with_vec(steps in steps()) {
            let (mut ours, mut theirs) = (ShmVec::<u8, 5>::new(), Vec::new());
            for step in steps {
                let free = 5 - theirs.len();
                match step {
                    Step::Push(new) => {
                        let fits = ours.try_push(new).is_ok();
                        prop_assert_eq!(fits, free > 0);
                        theirs.extend(fits.then_some(new));
                    }
                    Step::Extend(new) => {
                        let fits = ours.try_extend_from_slice(&new).is_ok();
                        prop_assert_eq!(fits, free >= new.len());
                        theirs.extend(new.into_iter().filter(|_| fits));
                    }
                    Step::Insert(at, new) => {
                        let fits = ours.try_insert(at, new).is_ok();
                        prop_assert_eq!(fits, free > 0 && at <= theirs.len());
                        if fits {
                            theirs.insert(at, new);
                        }
                    }
                    Step::Pop => prop_assert_eq!(ours.pop(), theirs.pop()),
                    Step::Remove(at) => {
                        let removed = (at < theirs.len()).then(|| theirs.remove(at));
                        prop_assert_eq!(ours.remove(at), removed);
                    }
                    Step::Truncate(len) => {
                        ours.truncate(len);
                        theirs.truncate(len);
                    }
                }
                prop_assert_eq!(ours.try_as_slice(), Ok(theirs.as_slice()));
            }
        }
    }

    #[test]
    fn numbers_are_documented() {
        type Numbers = ShmVec<u64, 3>;
        documented::fields!("ShmVec", Numbers { len, elements }, [("N", 3), ("T", 8)]);
    }
}
