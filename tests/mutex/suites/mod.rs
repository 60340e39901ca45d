//! What the suites of mutex tests share: locks of each protocol, and the ways to
//! lock them.

mod exclusion;
mod owner_death;
mod timeouts;

use std::time::{Duration, Instant};

use shm_sync::{LockResult, Segment, ShmMutex, ShmMutexGuard};

pub(crate) type Lock = ShmMutex<u64>;
pub(crate) type Guard<'a> = ShmMutexGuard<'a, u64>;

/// Runs a test over locks without a protocol, and over locks with priority
/// inheritance.
pub(crate) fn with_each_protocol<const N: usize>(test: impl Fn(&[Lock; N])) {
    println!("without a protocol");
    test(&Segment::anonymous([const { ShmMutex::new(0) }; N]).unwrap());
    println!("with priority inheritance");
    test(&Segment::anonymous([const { ShmMutex::with_priority_inheritance(0) }; N]).unwrap());
}

/// A way to lock.
pub(crate) type Way = fn(&Lock) -> LockResult<Guard<'_>>;

/// The ways to lock that sleep for as long as they have to.
pub(crate) const WAYS_TO_WAIT: [Way; 3] = [
    ShmMutex::lock,
    |lock| lock.try_lock_for(Duration::from_secs(50)),
    |lock| lock.try_lock_until(Instant::now() + Duration::from_secs(50)),
];

/// All the ways to lock. Of those that can give up, at once.
pub(crate) const WAYS_TO_LOCK: [Way; 4] = [
    ShmMutex::lock,
    ShmMutex::try_lock,
    |lock| lock.try_lock_for(Duration::ZERO),
    |lock| lock.try_lock_until(Instant::now()),
];
