//! What can be seen of a mutex in memory that can't be written to.

use super::mutex::ShmMutex;
use super::raw_mutex::Holder;
use crate::read_only::ReadOnly;
use crate::shm_safe::ShmSafe;

impl<'a, T: ShmSafe> ReadOnly<'a, ShmMutex<T>> {
    /// As [`ShmMutex::is_poisoned`].
    #[must_use]
    pub fn is_poisoned(self) -> bool {
        self.mutex().is_poisoned()
    }

    /// As [`ShmMutex::holder`].
    #[must_use]
    pub fn holder(self) -> Option<Holder> {
        self.mutex().holder()
    }

    /// A copy of the data, made without the lock: its parts may be of different
    /// times, if somebody is changing it. For types whose parts must agree to be a
    /// value at all (enums with fields) it does not compile.
    #[must_use]
    pub fn peek(self) -> T {
        // SAFETY: the data is a field of the mutex.
        let data = unsafe { self.__project(|mutex| ShmMutex::data_in(mutex)) };
        data.copy_unsynchronised()
    }

    fn mutex(self) -> &'a ShmMutex<T> {
        // SAFETY: the methods above load from words of at most eight bytes,
        // `Relaxed`.
        unsafe { self.as_shared() }
    }
}
