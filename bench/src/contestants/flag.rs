//! A flag in shared memory that is polled: `usleep(1000)` for as long as it is set. The
//! method to improve on. It is set by an atomic exchange, so that it is a correct lock
//! among the living; set in two steps, a look and a store, it would lose updates too.

use std::mem::size_of;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::guarded::Guarded;
use super::{Cost, Lock, Profile, Scope};
use crate::failure::Failure;
use crate::report::Survives;
use crate::shared::Shared;

/// Between two looks.
pub(crate) const PAUSE: Duration = Duration::from_micros(1000);

/// The name, also of what passes turns in this way.
pub(crate) const POLLING: &str = "flag + usleep(1000)";

/// A flag that is set while somebody is inside.
#[derive(Debug)]
pub(crate) struct PolledFlag {
    shared: Shared<Guarded<AtomicBool>>,
}

impl Lock for PolledFlag {
    const PROFILE: Profile = Profile {
        name: POLLING,
        survives: Survives::Nothing,
        tells: false,
        scope: Scope::Processes,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<AtomicBool>(),
    };

    fn make() -> Result<Self, Failure> {
        Ok(Self {
            shared: Shared::zeroed()?,
        })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        // Acquire and release: what is done inside is seen by the next one inside.
        while self.shared.lock.swap(true, Ordering::Acquire) {
            thread::sleep(PAUSE);
        }
        // SAFETY: whoever finds the flag clear and sets it is alone.
        let result = inside(unsafe { self.shared.value() });
        self.shared.lock.store(false, Ordering::Release);
        result
    }
}
