//! Mutexes for threads of one process, for comparison.

use std::mem::size_of;

use super::lock::{Cost, Lock, Profile, Scope, fail};
use crate::failure::Failure;
use crate::series::Survives;

/// A value with the alignment of the locks in shared memory.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Aligned<T>(T);

/// `std::sync::Mutex`.
#[derive(Debug)]
pub(crate) struct Std(Box<Aligned<std::sync::Mutex<u64>>>);

impl Lock for Std {
    const PROFILE: Profile = Profile {
        name: "std::sync (threads)",
        survives: Survives::DoesNotApply,
        tells: false,
        scope: Scope::Threads,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<std::sync::Mutex<()>>(),
    };

    fn create() -> Result<Self, Failure> {
        Ok(Self(Box::default()))
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        match self.0.0.lock() {
            Ok(mut count) => inside(&mut count),
            Err(error) => fail("Mutex::lock", error),
        }
    }
}

/// `parking_lot::Mutex`.
#[derive(Debug)]
pub(crate) struct ParkingLot(Box<Aligned<parking_lot::Mutex<u64>>>);

impl Lock for ParkingLot {
    const PROFILE: Profile = Profile {
        name: "parking_lot (threads)",
        survives: Survives::DoesNotApply,
        tells: false,
        scope: Scope::Threads,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<parking_lot::Mutex<()>>(),
    };

    fn create() -> Result<Self, Failure> {
        Ok(Self(Box::default()))
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        inside(&mut self.0.0.lock())
    }
}
