//! Reads a mutex in memory that this process cannot write to.

use super::mutex::ShmMutex;
use super::snapshot::Holder;
use crate::read_only::ReadOnly;
use crate::shm_safe::ShmSafe;

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
impl<'a, T: ShmSafe> ReadOnly<'a, ShmMutex<T>> {
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

    /// Copies the data without the lock.
    ///
    /// If a holder changes the data meanwhile, the copy mixes old and new parts. For
    /// types that such a mixture could make invalid (enums with fields) this does not
    /// compile.
    #[must_use]
    pub fn peek(self) -> T {
        // SAFETY: the data is a field of the mutex.
        let data = unsafe { self.__project(|mutex| ShmMutex::data_in(mutex)) };
        data.copy_unsynchronised()
    }

    fn mutex(self) -> &'a ShmMutex<T> {
        // SAFETY: the methods above write nothing. They load `Relaxed` from words of at
        // most eight bytes.
        unsafe { self.as_shared() }
    }
}
