//! The cases that the published test suites have for mutexes, over [`ShmMutex`] with
//! and without priority inheritance.
//!
//! The cases come from glibc, the Linux selftests, the Linux Test Project, Rust's std,
//! parking_lot, Boost.Interprocess and Fast-DDS. The code is ours. The table in
//! docs/results/suites.md says where each case is.
//!
//! This file has what the topics share: locks with both protocols, and the ways to
//! lock.

mod exclusion;
mod owner_death;
mod timeouts;

use std::time::{Duration, Instant};

use shm_sync::{LockResult, Segment, ShmMutex, ShmMutexGuard};

pub(crate) type Lock = ShmMutex<u64>;
pub(crate) type Guard<'a> = ShmMutexGuard<'a, u64>;

/// Runs a test with locks without a protocol, and with locks with priority inheritance.
pub(crate) fn with_each_protocol<const N: usize>(test: impl Fn(&[Lock; N])) {
    println!("without a protocol");
    test(&Segment::anonymous([const { ShmMutex::new(0) }; N]).unwrap());
    println!("with priority inheritance");
    test(&Segment::anonymous([const { ShmMutex::with_priority_inheritance(0) }; N]).unwrap());
}

/// A method that locks.
pub(crate) type LockFn = fn(&Lock) -> LockResult<Guard<'_>>;

/// The methods that wait as long as the tests need.
pub(crate) const WAITING_LOCKS: [LockFn; 3] = [
    ShmMutex::lock,
    |lock| lock.try_lock_for(Duration::from_secs(50)),
    |lock| lock.try_lock_until(Instant::now() + Duration::from_secs(50)),
];

/// All methods that lock. Those with a deadline do not wait.
pub(crate) const ALL_LOCKS: [LockFn; 4] = [
    ShmMutex::lock,
    ShmMutex::try_lock,
    |lock| lock.try_lock_for(Duration::ZERO),
    |lock| lock.try_lock_until(Instant::now()),
];
