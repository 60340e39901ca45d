//! A polled flag in shared memory: a waiter calls `usleep(1000)` while the flag is set.
//! This is the method to improve on. An atomic exchange sets the flag, so it is a
//! correct lock as long as no process dies. A separate load and store would also lose
//! updates.

use std::mem::size_of;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::guarded::Guarded;
use super::lock::{Cost, Lock, Profile, Scope};
use crate::failure::Failure;
use crate::series::Survives;
use crate::shared::Shared;

/// The time between two polls.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_micros(1000);

/// The name of this method in all workloads.
pub(crate) const POLLED_FLAG: &str = "flag + usleep(1000)";

/// A flag that is set while a worker holds the lock.
#[derive(Debug)]
pub(crate) struct PolledFlag {
    shared: Shared<Guarded<AtomicBool>>,
}

impl Lock for PolledFlag {
    const PROFILE: Profile = Profile {
        name: POLLED_FLAG,
        survives: Survives::Nothing,
        tells: false,
        scope: Scope::Processes,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<AtomicBool>(),
    };

    fn create() -> Result<Self, Failure> {
        Ok(Self {
            shared: Shared::zeroed()?,
        })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        // Acquire and Release: the next holder sees what the previous holder wrote.
        while self.shared.lock.swap(true, Ordering::Acquire) {
            thread::sleep(POLL_INTERVAL);
        }
        // SAFETY: only the worker that changed the flag from false to true holds the
        // lock.
        let result = inside(unsafe { self.shared.value() });
        self.shared.lock.store(false, Ordering::Release);
        result
    }
}
