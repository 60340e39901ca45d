//! `ShmString`: a text of bounded length.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::mem::offset_of;
use std::ops::Deref;
use std::str::FromStr;

use super::commit::{commit, length_field};
use crate::error::{CapacityError, InvalidContents};
use crate::shm_safe::{Parts, ShmSafe, TearFree, TypeProperties};

/// A text of at most `N` bytes of UTF-8.
///
/// It dereferences to `str`. What does not fit is an error, and changes nothing. Put
/// it under a lock, as all data that more than one process uses.
///
/// ```
/// use shm_sync::{Error, Segment, ShmMutex, ShmSafe, ShmString};
///
/// #[derive(ShmSafe)]
/// #[repr(C)]
/// struct Job {
///     file: ShmString<60>,
/// }
///
/// # fn main() -> Result<(), Error> {
/// let job = Segment::anonymous(ShmMutex::new(Job { file: "report".try_into()? }))?;
/// let mut job = job.lock()?;
/// job.file.try_push_str(".pdf")?;
/// assert_eq!(job.file, "report.pdf");
/// assert!(job.file.ends_with(".pdf"));
/// assert!(job.file.try_push_str(&"x".repeat(60)).is_err());
/// assert_eq!(job.file.len(), 10);
/// # Ok(())
/// # }
/// ```
///
/// # Invalid bytes
///
/// All bytes are a valid `ShmString`, so no process can cause undefined behaviour with
/// them. If the length exceeds `N`, or the bytes are not UTF-8, the text is the longest
/// beginning that is valid, and [`try_as_str`](Self::try_as_str) returns an error. The
/// next change of the text removes the invalid rest.
///
/// Each access checks the text, which takes time in proportion to its length.
///
/// # Crash behaviour
///
/// A process that is killed in [`try_push`](Self::try_push),
/// [`try_push_str`](Self::try_push_str), [`pop`](Self::pop) or [`clear`](Self::clear)
/// leaves the text as it was before or after the call. An assignment of a whole
/// `ShmString` may be left half done: the repair checks or replaces it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct ShmString<const N: usize> {
    len: u32,
    bytes: [u8; N],
}

// SAFETY:
// * `repr(C)` fixes the layout, and the fingerprint covers the fields and the size.
// * Bytes of text have the same meaning in every process. There is no destructor.
// * There are no sync objects.
// * Properties: any bytes are a valid value, so zeros and mixtures are. There is no
//   interior mutability.
unsafe impl<const N: usize> ShmSafe for ShmString<N> {
    const PARTS: Parts = Parts {
        kind: "ShmString",
        size: size_of::<Self>(),
        align: align_of::<Self>(),
        fields: &[
            ("len", offset_of!(Self, len), u32::DESCRIPTION),
            ("bytes", offset_of!(Self, bytes), <[u8; N]>::DESCRIPTION),
        ],
        variants: &[],
    };
    const PROPERTIES: TypeProperties = TypeProperties::POD;
}

// SAFETY: any bytes are a valid value.
unsafe impl<const N: usize> TearFree for ShmString<N> {}

impl<const N: usize> ShmString<N> {
    /// Returns an empty text.
    #[must_use]
    pub const fn new() -> Self {
        const { length_field(N) };
        Self {
            len: 0,
            bytes: [0; N],
        }
    }

    /// Returns how many bytes the text can have.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        N
    }

    /// Returns the text, if all of it is valid.
    ///
    /// # Errors
    ///
    /// [`InvalidContents`]: the length exceeds the capacity, or the bytes are not
    /// UTF-8.
    pub fn try_as_str(&self) -> Result<&str, InvalidContents> {
        let len = self.len as usize;
        let bytes = self.bytes.get(..len);
        let bytes = bytes.ok_or(InvalidContents::Length { len, capacity: N })?;
        std::str::from_utf8(bytes).map_err(InvalidContents::Utf8)
    }

    /// Appends a character.
    ///
    /// # Errors
    ///
    /// [`CapacityError`]: it does not fit.
    pub fn try_push(&mut self, character: char) -> Result<(), CapacityError> {
        self.try_push_str(character.encode_utf8(&mut [0; 4]))
    }

    /// Appends a text.
    ///
    /// # Errors
    ///
    /// [`CapacityError`]: it does not fit. Nothing is appended.
    pub fn try_push_str(&mut self, text: &str) -> Result<(), CapacityError> {
        let len = self.len();
        let needed = len + text.len();
        if needed > N {
            return Err(CapacityError::new(needed, N));
        }
        // The length of a damaged text may cover the room.
        if self.len as usize != len {
            self.set_len(len);
        }
        self.bytes[len..needed].copy_from_slice(text.as_bytes());
        self.set_len(needed);
        Ok(())
    }

    /// Removes the last character and returns it. Returns `None` if the text is empty.
    pub fn pop(&mut self) -> Option<char> {
        let last = self.chars().next_back()?;
        self.set_len(self.len() - last.len_utf8());
        Some(last)
    }

    /// Removes all characters.
    pub fn clear(&mut self) {
        self.set_len(0);
    }

    /// Stores a length, which is at most the capacity.
    fn set_len(&mut self, len: usize) {
        let len = u32::try_from(len).unwrap_or(const { length_field(N) });
        commit(&mut self.len, len);
    }
}

/// Returns the text, or its longest beginning that is valid.
impl<const N: usize> Deref for ShmString<N> {
    type Target = str;

    fn deref(&self) -> &str {
        let bytes = &self.bytes[..N.min(self.len as usize)];
        match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let valid = &bytes[..error.valid_up_to()];
                std::str::from_utf8(valid).unwrap_or_default()
            }
        }
    }
}

impl<const N: usize> Default for ShmString<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> TryFrom<&str> for ShmString<N> {
    type Error = CapacityError;

    fn try_from(text: &str) -> Result<Self, CapacityError> {
        let mut this = Self::new();
        this.try_push_str(text)?;
        Ok(this)
    }
}

impl<const N: usize> FromStr for ShmString<N> {
    type Err = CapacityError;

    fn from_str(text: &str) -> Result<Self, CapacityError> {
        text.try_into()
    }
}

impl<const N: usize> From<ShmString<N>> for String {
    fn from(text: ShmString<N>) -> Self {
        (*text).to_owned()
    }
}

impl<const N: usize> AsRef<str> for ShmString<N> {
    fn as_ref(&self) -> &str {
        self
    }
}

impl<const N: usize> Borrow<str> for ShmString<N> {
    fn borrow(&self) -> &str {
        self
    }
}

/// Appends formatted text. [`fmt::Error`] means that it does not fit; the part that
/// fitted is appended.
///
/// ```
/// use std::fmt::Write;
/// use shm_sync::ShmString;
///
/// let mut text = ShmString::<16>::new();
/// write!(text, "{} of {}", 3, 7)?;
/// assert_eq!(text, "3 of 7");
/// # Ok::<(), std::fmt::Error>(())
/// ```
impl<const N: usize> fmt::Write for ShmString<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.try_push_str(text).map_err(|_| fmt::Error)
    }
}

impl<const N: usize> fmt::Display for ShmString<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

impl<const N: usize> fmt::Debug for ShmString<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl<const N: usize, const M: usize> PartialEq<ShmString<M>> for ShmString<N> {
    fn eq(&self, other: &ShmString<M>) -> bool {
        **self == **other
    }
}

impl<const N: usize> Eq for ShmString<N> {}

impl<const N: usize> PartialEq<str> for ShmString<N> {
    fn eq(&self, other: &str) -> bool {
        **self == *other
    }
}

impl<const N: usize> PartialEq<&str> for ShmString<N> {
    fn eq(&self, other: &&str) -> bool {
        **self == **other
    }
}

impl<const N: usize> PartialEq<String> for ShmString<N> {
    fn eq(&self, other: &String) -> bool {
        **self == **other
    }
}

impl<const N: usize> PartialOrd for ShmString<N> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for ShmString<N> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (**self).cmp(&**other)
    }
}

impl<const N: usize> Hash for ShmString<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

#[cfg(feature = "serde")]
impl<const N: usize> serde::Serialize for ShmString<N> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;
    use proptest::prelude::*;

    fn text<const N: usize>(len: u32, bytes: [u8; N]) -> ShmString<N> {
        ShmString { len, bytes }
    }

    #[test]
    fn smoke() {
        let mut name: ShmString<5> = "naï".try_into().unwrap();
        assert_eq!(name, "naï");
        assert_eq!((name.len(), name.capacity()), (4, 5));
        let error = name.try_push('ï').unwrap_err();
        assert_eq!((error.needed(), error.capacity()), (6, 5));
        assert_eq!(name, "naï", "nothing is appended");
        name.try_push('f').unwrap();
        assert_eq!(name.to_string(), "naïf");
        assert_eq!([name.pop(), name.pop()], [Some('f'), Some('ï')]);
        assert_eq!(name, "na");
        name.clear();
        assert_eq!((name, name.pop()), (ShmString::new(), None));
    }

    #[test]
    fn invalid_length_is_an_error() {
        let damaged = text(4, *b"abc");
        let error = InvalidContents::Length {
            len: 4,
            capacity: 3,
        };
        assert_eq!(damaged.try_as_str(), Err(error));
        assert_eq!(damaged, "abc");
    }

    #[test]
    fn invalid_utf8_is_an_error_and_removed() {
        let mut damaged = text(4, *b"ab\xffd");
        let error = damaged.try_as_str().unwrap_err();
        assert!(matches!(error, InvalidContents::Utf8(_)), "{error}");
        assert_eq!(damaged, "ab");
        damaged.try_push('c').unwrap();
        assert_eq!(damaged.try_as_str(), Ok("abc"));
    }

    #[test]
    fn bytes_after_the_text_do_not_count() {
        let (one, other) = (text(1, *b"ab"), text(1, *b"ac"));
        assert_eq!(one, other);
        assert_eq!(one.cmp(&other), std::cmp::Ordering::Equal);
    }

    proptest! {
        /// It behaves as a `String` whose capacity is limited.
        #[test]
        fn agrees_with_string(steps in prop::collection::vec(any::<Option<String>>(), 0..12)) {
            let (mut ours, mut theirs) = (ShmString::<12>::new(), String::new());
            for step in steps {
                match step {
                    Some(more) if theirs.len() + more.len() <= 12 => {
                        ours.try_push_str(&more).unwrap();
                        theirs.push_str(&more);
                    }
                    Some(more) => prop_assert!(ours.try_push_str(&more).is_err()),
                    None => prop_assert_eq!(ours.pop(), theirs.pop()),
                }
                prop_assert_eq!(ours.try_as_str(), Ok(theirs.as_str()));
            }
        }

        /// Any bytes are a value, of which a prefix is text.
        #[test]
        fn any_bytes_are_a_value(len: u32, bytes: [u8; 6]) {
            let mut value = text(len, bytes);
            let shown = value.to_string();
            prop_assert!(bytes.starts_with(shown.as_bytes()));
            prop_assert_eq!(value.try_as_str().is_ok(), shown.len() == len as usize);
            let fits = value.try_push('x').is_ok();
            prop_assert_eq!(fits, shown.len() < 6);
        }
    }

    #[test]
    fn numbers_are_documented() {
        type Text = ShmString<3>;
        documented::fields!("ShmString", Text { len, bytes }, [("N", 3)]);
    }
}
