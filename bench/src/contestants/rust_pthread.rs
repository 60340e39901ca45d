//! Rust crates around a pthread mutex.
//!
//! * **posix-sync**: its borrowed mutex, robust and process-shared, from the example
//!   in its documentation.
//! * **iceoryx2-bb-posix** (0.9: the last for Rust 1.87; its mutex is that of 0.10,
//!   line for line): with `ReleaseWhenLocked`, which is a robust mutex. Its
//!   documentation advises to use it with `timed_lock`, which polls with sleeps; `lock`
//!   is measured, which flatters it.
//! * **raw_sync_2**: its mutex is called through a `dyn` pointer, as its interface has
//!   it.
//! * **process-sync**: the number is in its `SharedMemoryObject`, a mapping of its own.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::{MaybeUninit, size_of};

use iceoryx2_bb_posix::ipc_capable::{Handle, IpcCapable};
use iceoryx2_bb_posix::mutex::{
    Mutex, MutexBuilder as Iceoryx2Builder, MutexHandle, MutexLockError,
    MutexThreadTerminationBehavior,
};
use iceoryx2_log_types::{Log, LogLevel};
use posix_sync::mutex::guards::RobustGuardContainer;
use posix_sync::mutex::robustness_markers;
use posix_sync::mutex::{BorrowedMutex, MutexBuilder, MutexSharing, RawMutexAlloc};
use process_sync::{SharedMemoryObject, SharedMutex};
use raw_sync_2::locks::{LockImpl, LockInit};

use super::guarded::{Foreign, Guarded};
use super::{Cost, Lock, Profile, Scope, broken};
use crate::failure::Failure;
use crate::report::Survives;
use crate::shared::Shared;

/// posix-sync's robust `BorrowedMutex`.
#[derive(Debug)]
pub(crate) struct PosixSync {
    shared: Shared<Guarded<Foreign<MaybeUninit<RawMutexAlloc>>>>,
}

impl PosixSync {
    fn raw(&self) -> *mut RawMutexAlloc {
        self.shared.lock.get().cast()
    }
}

impl Lock for PosixSync {
    const PROFILE: Profile = Profile {
        name: "posix-sync",
        survives: Survives::Kills,
        tells: true,
        scope: Scope::Processes,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<RawMutexAlloc>(),
    };

    fn make() -> Result<Self, Failure> {
        let this = Self {
            shared: Shared::zeroed()?,
        };
        let builder =
            MutexBuilder::<robustness_markers::Robust>::new().with_sharing(MutexSharing::Shared);
        // SAFETY: there is room for one, aligned to a page, and no mutex in it yet.
        unsafe { builder.build_borrowed(this.raw(), &this.shared) };
        Ok(this)
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        // SAFETY: `make` built a mutex of this kind there.
        let mutex = unsafe {
            BorrowedMutex::<robustness_markers::Robust>::from_raw(self.raw(), &self.shared)
        };
        // SAFETY: all processes use it as what it is.
        let _guard = match unsafe { mutex.lock() } {
            Ok(RobustGuardContainer::Standard(guard)) => guard,
            Ok(RobustGuardContainer::Indeterminate(guard)) => guard
                .make_consistent()
                .unwrap_or_else(|error| broken("make_consistent", error)),
            Err(error) => broken("BorrowedMutex::lock", error),
        };
        // SAFETY: the lock is held until the guard goes, after this.
        inside(unsafe { self.shared.value() })
    }
}

/// iceoryx2's mutex, which owns its data.
#[derive(Debug)]
pub(crate) struct Iceoryx2 {
    shared: Shared<Foreign<MaybeUninit<MutexHandle<u64>>>>,
}

impl Iceoryx2 {
    #[inline]
    fn handle(&self) -> &MutexHandle<u64> {
        let handle = self.shared.get().cast::<MutexHandle<u64>>();
        // SAFETY: `make` wrote one there before it called this, and nobody makes a
        // `&mut` to it.
        unsafe { &*handle }
    }
}

impl Lock for Iceoryx2 {
    const PROFILE: Profile = Profile {
        name: "iceoryx2-bb-posix",
        survives: Survives::Kills,
        tells: true,
        scope: Scope::Processes,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<MutexHandle<()>>(),
    };

    fn make() -> Result<Self, Failure> {
        let this = Self {
            shared: Shared::zeroed()?,
        };
        let place = this.shared.get().cast::<MutexHandle<u64>>();
        // SAFETY: there is room for one, aligned to a page, and nobody uses it yet.
        unsafe { place.write(MutexHandle::new()) };
        Iceoryx2Builder::new()
            .is_interprocess_capable(true)
            .thread_termination_behavior(MutexThreadTerminationBehavior::ReleaseWhenLocked)
            .create(0, this.handle())
            .map_err(|error| Failure::NotHere(format!("{error:?}")))?;
        Ok(this)
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        // SAFETY: `make` initialised the handle for use between processes, and it is
        // never cleaned up.
        let mutex = unsafe { Mutex::from_ipc_handle(self.handle()) };
        let mut guard = match mutex.lock() {
            Ok(guard) => guard,
            Err(MutexLockError::LockAcquiredButOwnerDied(guard)) => {
                mutex.make_consistent();
                guard
            }
            Err(error) => broken("Mutex::lock", error),
        };
        inside(&mut guard)
    }
}

/// Logs nothing.
#[derive(Debug)]
struct Silence;

impl Log for Silence {
    fn log(&self, _: LogLevel, _: fmt::Arguments<'_>, _: fmt::Arguments<'_>) {}
}

/// The logger that iceoryx2's crates expect their user to link.
// SAFETY: it has the type with which `iceoryx2-log` declares it.
#[unsafe(no_mangle)]
fn __internal_default_logger() -> &'static dyn Log {
    &Silence
}

/// raw_sync_2's mutex.
pub(crate) struct RawSync {
    lock: Box<dyn LockImpl>,
    /// What `lock` points to.
    _shared: Shared<Guarded<Foreign<libc::pthread_mutex_t>>>,
}

// SAFETY: the lock is a pointer to a pthread mutex, which may be used by many at once,
// and a pointer to its data, which are never replaced.
unsafe impl Sync for RawSync {}

impl Lock for RawSync {
    const PROFILE: Profile = Profile {
        name: "raw_sync_2",
        survives: Survives::Nothing,
        tells: false,
        scope: Scope::Processes,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<libc::pthread_mutex_t>(),
    };

    fn make() -> Result<Self, Failure> {
        let shared = Shared::<Guarded<Foreign<libc::pthread_mutex_t>>>::zeroed()?;
        // SAFETY: nobody uses the lock yet.
        let data: *mut u64 = unsafe { shared.value() };
        let place = shared.lock.get().cast();
        // SAFETY: there is room for a mutex, and it is mapped for as long as the lock
        // is there.
        let (lock, _) = unsafe { raw_sync_2::locks::Mutex::new(place, data.cast()) }
            .map_err(|error| Failure::NotHere(error.to_string()))?;
        Ok(Self {
            lock,
            _shared: shared,
        })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        match self.lock.lock() {
            Ok(guard) => {
                let data: *mut u64 = guard.cast();
                // SAFETY: it is what `make` passed, and the lock is held.
                inside(unsafe { &mut *data })
            }
            Err(error) => broken("LockImpl::lock", error),
        }
    }
}

/// process-sync's mutex, and the number in its own shared memory.
pub(crate) struct ProcessSync {
    mutex: UnsafeCell<SharedMutex>,
    value: UnsafeCell<SharedMemoryObject<u64>>,
}

// SAFETY: its `&mut` methods pass pointers to shared memory to C. Each worker is a
// process of one thread, with a copy of this of its own.
unsafe impl Sync for ProcessSync {}

impl Lock for ProcessSync {
    const PROFILE: Profile = Profile {
        name: "process-sync",
        survives: Survives::Nothing,
        tells: false,
        scope: Scope::Processes,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<libc::pthread_mutex_t>(),
    };

    fn make() -> Result<Self, Failure> {
        let mutex = SharedMutex::new().map_err(Failure::of("SharedMutex::new"))?;
        let value = SharedMemoryObject::new(0).map_err(Failure::of("SharedMemoryObject::new"))?;
        Ok(Self {
            mutex: UnsafeCell::new(mutex),
            value: UnsafeCell::new(value),
        })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        // SAFETY: this process has one thread, and nobody else has a reference.
        let mutex = unsafe { &mut *self.mutex.get() };
        if let Err(error) = mutex.lock() {
            broken("SharedMutex::lock", error);
        }
        // SAFETY: as above, and the lock is held.
        let value = unsafe { &mut *self.value.get() };
        let result = inside(value.get_mut());
        if let Err(error) = mutex.unlock() {
            broken("SharedMutex::unlock", error);
        }
        result
    }
}
