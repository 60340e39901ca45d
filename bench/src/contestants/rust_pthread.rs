//! Rust crates around a pthread mutex.
//!
//! * **posix-sync**: the borrowed mutex, robust and process-shared, as in the example
//!   of its documentation.
//! * **iceoryx2-bb-posix**: the mutex with `ReleaseWhenLocked`, which makes it robust.
//!   Its documentation recommends `timed_lock`, which polls and sleeps. The benchmark
//!   uses `lock`, which is faster.
//! * **raw_sync_2**: the mutex is called through a `dyn` pointer, as its interface
//!   requires.
//! * **process-sync**: the number is in a `SharedMemoryObject`, which is a separate
//!   mapping.

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

use super::guarded::{ForeignObject, Guarded};
use super::lock::{Cost, Lock, Profile, Scope, fail};
use crate::failure::Failure;
use crate::series::Survives;
use crate::shared::Shared;

/// posix-sync's robust `BorrowedMutex`.
#[derive(Debug)]
pub(crate) struct PosixSync {
    shared: Shared<Guarded<ForeignObject<MaybeUninit<RawMutexAlloc>>>>,
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

    fn create() -> Result<Self, Failure> {
        let this = Self {
            shared: Shared::zeroed()?,
        };
        let builder =
            MutexBuilder::<robustness_markers::Robust>::new().with_sharing(MutexSharing::Shared);
        // SAFETY: the memory is large enough, aligned to a page, and holds no mutex
        // yet.
        unsafe { builder.build_borrowed(this.raw(), &this.shared) };
        Ok(this)
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        // SAFETY: `create` has built a mutex of this kind there.
        let mutex = unsafe {
            BorrowedMutex::<robustness_markers::Robust>::from_raw(self.raw(), &self.shared)
        };
        // SAFETY: all processes use the memory as this kind of mutex.
        let _guard = match unsafe { mutex.lock() } {
            Ok(RobustGuardContainer::Standard(guard)) => guard,
            Ok(RobustGuardContainer::Indeterminate(guard)) => guard
                .make_consistent()
                .unwrap_or_else(|error| fail("make_consistent", error)),
            Err(error) => fail("BorrowedMutex::lock", error),
        };
        // SAFETY: the guard holds the lock longer than the call, and this worker has no
        // other reference.
        inside(unsafe { self.shared.value() })
    }
}

/// iceoryx2's mutex, which contains its data.
#[derive(Debug)]
pub(crate) struct Iceoryx2 {
    shared: Shared<ForeignObject<MaybeUninit<MutexHandle<u64>>>>,
}

impl Iceoryx2 {
    #[inline]
    fn handle(&self) -> &MutexHandle<u64> {
        let handle = self.shared.get().cast::<MutexHandle<u64>>();
        // SAFETY: `create` writes a handle there before it calls this function. No code
        // creates a `&mut` to it.
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

    fn create() -> Result<Self, Failure> {
        let this = Self {
            shared: Shared::zeroed()?,
        };
        let place = this.shared.get().cast::<MutexHandle<u64>>();
        // SAFETY: the memory is large enough and aligned to a page, and no thread uses
        // it yet.
        unsafe { place.write(MutexHandle::new()) };
        Iceoryx2Builder::new()
            .is_interprocess_capable(true)
            .thread_termination_behavior(MutexThreadTerminationBehavior::ReleaseWhenLocked)
            .create(0, this.handle())
            .map_err(|error| Failure::Unavailable(format!("{error:?}")))?;
        Ok(this)
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        // SAFETY: `create` has initialised the handle for use between processes, and no
        // code cleans it up.
        let mutex = unsafe { Mutex::from_ipc_handle(self.handle()) };
        let mut guard = match mutex.lock() {
            Ok(guard) => guard,
            Err(MutexLockError::LockAcquiredButOwnerDied(guard)) => {
                mutex.make_consistent();
                guard
            }
            Err(error) => fail("Mutex::lock", error),
        };
        inside(&mut guard)
    }
}

/// A logger that discards all messages.
#[derive(Debug)]
struct Silence;

impl Log for Silence {
    fn log(&self, _: LogLevel, _: fmt::Arguments<'_>, _: fmt::Arguments<'_>) {}
}

/// Returns the logger, which iceoryx2's crates look up by this symbol.
// SAFETY: the function has the type with which `iceoryx2-log` declares it.
#[unsafe(no_mangle)]
fn __internal_default_logger() -> &'static dyn Log {
    &Silence
}

/// raw_sync_2's mutex.
pub(crate) struct RawSync {
    lock: Box<dyn LockImpl>,
    /// The memory that `lock` points to.
    _shared: Shared<Guarded<ForeignObject<libc::pthread_mutex_t>>>,
}

// SAFETY: the lock consists of two pointers that never change. One points to a pthread
// mutex, which threads may share. The other points to the data that the mutex guards.
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

    fn create() -> Result<Self, Failure> {
        let shared = Shared::<Guarded<ForeignObject<libc::pthread_mutex_t>>>::zeroed()?;
        // SAFETY: no other thread uses the lock yet, and there is no other reference.
        let data: *mut u64 = unsafe { shared.value() };
        let place = shared.lock.get().cast();
        // SAFETY: the memory is large enough for a mutex and stays mapped as long as
        // the lock exists.
        let (lock, _) = unsafe { raw_sync_2::locks::Mutex::new(place, data.cast()) }
            .map_err(|error| Failure::Unavailable(error.to_string()))?;
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
                // SAFETY: `create` passed this pointer to the lock, so it leads to the
                // data. This worker holds the lock, so no other worker uses the data.
                inside(unsafe { &mut *data })
            }
            Err(error) => fail("LockImpl::lock", error),
        }
    }
}

/// process-sync's mutex, and the number in a separate mapping.
pub(crate) struct ProcessSync {
    mutex: UnsafeCell<SharedMutex>,
    value: UnsafeCell<SharedMemoryObject<u64>>,
}

// SAFETY: each worker is a process of one thread and has its own copy of this value.
// The `&mut` methods only pass pointers to shared memory to C.
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

    fn create() -> Result<Self, Failure> {
        let mutex = SharedMutex::new().map_err(Failure::os("SharedMutex::new"))?;
        let value = SharedMemoryObject::new(0).map_err(Failure::os("SharedMemoryObject::new"))?;
        Ok(Self {
            mutex: UnsafeCell::new(mutex),
            value: UnsafeCell::new(value),
        })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        // SAFETY: this process has one thread, and there is no other reference.
        let mutex = unsafe { &mut *self.mutex.get() };
        if let Err(error) = mutex.lock() {
            fail("SharedMutex::lock", error);
        }
        // SAFETY: this process has one thread, there is no other reference in it, and
        // this worker holds the lock.
        let value = unsafe { &mut *self.value.get() };
        let result = inside(value.get_mut());
        if let Err(error) = mutex.unlock() {
            fail("SharedMutex::unlock", error);
        }
        result
    }
}
