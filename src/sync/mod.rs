//! The primitives. Each is in shared memory, next to or around the data that it guards.
//! No file here depends on how the memory is mapped.

mod channel;
mod condvar;
mod event;
mod event_count;
mod guard;
mod lifeline;
mod mutex;
mod or_recover;
mod pipe;
mod poison;
mod pthread_condvar;
mod raw_mutex;
pub(crate) mod raw_view;
mod read_only;
mod robust_lock;
mod seat;
mod semaphore;
pub(crate) mod snapshot;
mod variable_length;
mod wait;

pub use channel::{
    Receiver, ReceiverIter, ReceiverTryIter, RecvError, RecvTimeoutError, SendError,
    SendTimeoutError, Sender, ShmChannel, TryRecvError, TrySendError,
};
pub use condvar::ShmCondvar;
pub use event::ShmEvent;
pub use guard::ShmMutexGuard;
pub use lifeline::{End, LifelineGuard, Lifelines, ShmLifeline};
pub use mutex::ShmMutex;
pub use or_recover::OrRecover;
pub use pipe::{PipeReader, PipeWriter, ShmPipe};
pub use pthread_condvar::PthreadCondvar;
pub use robust_lock::MAX_LOCKS_HELD;
pub use semaphore::{SemaphorePermit, ShmSemaphore};
pub use snapshot::Holder;
pub use wait::{WaitTimeoutLockResult, WaitTimeoutResult};
