//! Reads a mutex in memory that this process cannot write to.

use super::mutex::ShmMutex;
use super::snapshot::Holder;
use crate::read_only::ReadOnly;
use crate::shm_safe::{SegmentContent, ShmSafe, TearFree, WithTail};

/// ```
/// use shm_sync::{Segment, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-read-only-mutex-{}", std::process::id());
/// # let name = name.as_str();
/// # let _counter = Segment::create(name, ShmMutex::new(5_u64))?;
/// let counter = Segment::<ShmMutex<u64>>::open_read_only(name)?;
/// let counter = counter.view();
/// assert!(!counter.is_poisoned());
/// assert_eq!(counter.holder(), None);
/// assert_eq!(counter.peek(), 5);
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
impl<'a, T: SegmentContent + ?Sized> ReadOnly<'a, ShmMutex<T>> {
    /// Returns whether the data may be inconsistent, like [`ShmMutex::is_poisoned`].
    #[must_use]
    pub fn is_poisoned(self) -> bool {
        self.mutex().is_poisoned()
    }

    /// Returns the holder at this moment, like [`ShmMutex::holder`].
    #[must_use]
    pub fn holder(self) -> Option<Holder> {
        self.mutex().holder()
    }

    fn mutex(self) -> &'a ShmMutex<T> {
        // SAFETY: the methods above write nothing. They load `Relaxed` from words of at
        // most eight bytes.
        unsafe { self.as_shared() }
    }

    /// Returns the view of the data, which a holder may change at any time.
    fn data(self) -> ReadOnly<'a, T> {
        // SAFETY: the data is a field of the mutex.
        unsafe { self.__project(|mutex| ShmMutex::data_in(mutex)) }
    }
}

impl<T: ShmSafe> ReadOnly<'_, ShmMutex<T>> {
    /// Copies the data without the lock.
    ///
    /// If a holder changes the data meanwhile, the copy mixes old and new parts. For
    /// types that such a mixture could make invalid (enums with fields) this does not
    /// compile: see [`TearFree`].
    #[must_use]
    pub fn peek(self) -> T
    where
        T: TearFree,
    {
        self.data().copy_unsynchronised()
    }
}

/// ```
/// use shm_sync::{Segment, SegmentOptions, ShmMutex};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-read-only-slice-{}", std::process::id());
/// # let name = name.as_str();
/// # let _samples = SegmentOptions::new()
/// #     .create_with_len(name, 3, |samples: &mut ShmMutex<[u64]>| samples.get_mut()[1] = 7)?;
/// let samples = Segment::<ShmMutex<[u64]>>::open_read_only(name)?;
/// let samples = samples.view();
/// assert_eq!(samples.len(), 3);
/// assert_eq!(samples.peek_element(1), Some(7));
/// assert_eq!(samples.peek_element(3), None);
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
impl<T: ShmSafe> ReadOnly<'_, ShmMutex<[T]>> {
    /// Returns the number of elements.
    #[must_use]
    pub fn len(self) -> usize {
        self.data().len()
    }

    /// Returns whether there are no elements.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Copies an element without the lock, like [`peek`](ReadOnly::peek), or returns
    /// `None` if `index` is not below the length.
    #[must_use]
    pub fn peek_element(self, index: usize) -> Option<T>
    where
        T: TearFree,
    {
        Some(self.data().element(index)?.copy_unsynchronised())
    }
}

/// ```
/// use shm_sync::{Segment, SegmentOptions, ShmMutex, WithTail};
///
/// # fn main() -> Result<(), shm_sync::Error> {
/// # let name = format!("/shm-sync-doc-read-only-tail-{}", std::process::id());
/// # let name = name.as_str();
/// type Table = ShmMutex<WithTail<u64, [u32]>>;
/// # let _table = SegmentOptions::new()
/// #     .create_with_len(name, 3, |table: &mut Table| table.get_mut().tail[1] = 7)?;
/// let table = Segment::<Table>::open_read_only(name)?;
/// let table = table.view();
/// assert_eq!((table.peek_head(), table.tail_len()), (0, 3));
/// assert_eq!(table.peek_element(1), Some(7));
/// assert_eq!(table.peek_element(3), None);
/// # shm_sync::unlink(name)?;
/// # Ok(())
/// # }
/// ```
impl<H: ShmSafe, T: ShmSafe> ReadOnly<'_, ShmMutex<WithTail<H, [T]>>> {
    /// Copies the head without the lock, like [`peek`](ReadOnly::peek).
    #[must_use]
    pub fn peek_head(self) -> H
    where
        H: TearFree,
    {
        crate::project!(self.data() => head).copy_unsynchronised()
    }

    /// Returns the number of elements in the tail.
    #[must_use]
    pub fn tail_len(self) -> usize {
        crate::project!(self.data() => tail).len()
    }

    /// Copies an element of the tail without the lock, like [`peek`](ReadOnly::peek),
    /// or returns `None` if `index` is not below the length.
    #[must_use]
    pub fn peek_element(self, index: usize) -> Option<T>
    where
        T: TearFree,
    {
        let tail = crate::project!(self.data() => tail);
        Some(tail.element(index)?.copy_unsynchronised())
    }
}
