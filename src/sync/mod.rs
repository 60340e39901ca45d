//! The primitives. Each lives in shared memory, next to or around the data it
//! guards, and knows nothing of how the memory came to be.

mod condvar;
mod look;
mod mutex;
mod poison;
mod pthread_condvar;
mod raw_mutex;
pub(crate) mod state;
mod wait;

pub use condvar::ShmCondvar;
pub use mutex::{ShmMutex, ShmMutexGuard};
pub use pthread_condvar::PthreadCondvar;
pub use raw_mutex::{Holder, MAX_LOCKS_HELD};
pub use wait::{WaitTimeoutLockResult, WaitTimeoutResult};
