//! The primitives. Each is in shared memory, next to or around the data that it guards.
//! No file here depends on how the memory is mapped.

mod barrier;
mod channel;
mod condvar;
mod event;
mod event_count;
mod guard;
mod lifeline;
mod mutex;
mod once_lock;
mod or_recover;
mod pipe;
mod poison;
mod pthread_condvar;
mod published;
mod raw_mutex;
mod raw_rwlock;
pub(crate) mod raw_view;
mod read_only;
mod robust_lock;
mod rwlock;
mod rwlock_guard;
mod rwlock_phase;
mod seat;
mod semaphore;
pub(crate) mod snapshot;
mod turn;
mod variable_length;
mod wait;

pub use barrier::{BarrierError, BarrierMember, ShmBarrier};
pub use channel::{
    Receiver, ReceiverIter, ReceiverTryIter, RecvError, RecvTimeoutError, SendError,
    SendTimeoutError, Sender, ShmChannel, TryRecvError, TrySendError,
};
pub use condvar::ShmCondvar;
pub use event::ShmEvent;
pub use guard::ShmMutexGuard;
pub use lifeline::{End, LifelineGuard, Lifelines, ShmLifeline};
pub use mutex::ShmMutex;
pub use once_lock::ShmOnceLock;
pub use or_recover::OrRecover;
pub use pipe::{PipeReader, PipeWriter, ShmPipe};
pub use pthread_condvar::PthreadCondvar;
pub use published::Published;
pub use robust_lock::MAX_LOCKS_HELD;
pub use rwlock::ShmRwLock;
pub use rwlock_guard::{ShmRwLockReadGuard, ShmRwLockWriteGuard};
pub use semaphore::{SemaphorePermit, ShmSemaphore};
pub use snapshot::Holder;
pub use wait::{WaitTimeoutLockResult, WaitTimeoutResult};
