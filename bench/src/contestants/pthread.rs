//! The pthread mutex of the C library, as a careful C program uses it.

use std::marker::PhantomData;
use std::mem::{MaybeUninit, size_of};

use super::guarded::{ForeignObject, Guarded};
use super::lock::{Cost, Lock, Profile, Scope, fail};
use crate::failure::Failure;
use crate::series::Survives;
use crate::shared::Shared;

/// A kind of mutex.
pub(crate) trait Kind: Sync + 'static {
    const NAME: &'static str;
    const SURVIVES: Survives;
    /// `PTHREAD_MUTEX_STALLED` or `PTHREAD_MUTEX_ROBUST`.
    const ROBUSTNESS: i32;
    /// `PTHREAD_MUTEX_NORMAL` or `PTHREAD_MUTEX_ERRORCHECK`.
    const TYPE: i32;
}

/// Process-shared, neither robust nor error-checking.
#[derive(Debug)]
pub(crate) struct Plain;

impl Kind for Plain {
    const NAME: &'static str = "pthread plain";
    const SURVIVES: Survives = Survives::Nothing;
    const ROBUSTNESS: i32 = libc::PTHREAD_MUTEX_STALLED;
    const TYPE: i32 = libc::PTHREAD_MUTEX_NORMAL;
}

/// Process-shared and robust.
#[derive(Debug)]
pub(crate) struct Robust;

impl Kind for Robust {
    const NAME: &'static str = "pthread robust";
    const SURVIVES: Survives = Survives::Kills;
    const ROBUSTNESS: i32 = libc::PTHREAD_MUTEX_ROBUST;
    const TYPE: i32 = libc::PTHREAD_MUTEX_NORMAL;
}

/// Process-shared, robust and error-checking.
#[derive(Debug)]
pub(crate) struct RobustChecking;

impl Kind for RobustChecking {
    const NAME: &'static str = "pthread robust checking";
    const SURVIVES: Survives = Survives::Kills;
    const ROBUSTNESS: i32 = libc::PTHREAD_MUTEX_ROBUST;
    const TYPE: i32 = libc::PTHREAD_MUTEX_ERRORCHECK;
}

/// A `pthread_mutex_t` of some kind.
#[derive(Debug)]
pub(crate) struct Pthread<K> {
    shared: Shared<Guarded<ForeignObject<libc::pthread_mutex_t>>>,
    kind: PhantomData<K>,
}

impl<K: Kind> Lock for Pthread<K> {
    const PROFILE: Profile = Profile {
        name: K::NAME,
        survives: K::SURVIVES,
        tells: matches!(K::SURVIVES, Survives::Kills),
        scope: Scope::Processes,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<libc::pthread_mutex_t>(),
    };

    fn create() -> Result<Self, Failure> {
        let this = Self {
            shared: Shared::zeroed()?,
            kind: PhantomData,
        };
        initialise(this.shared.lock.get(), K::ROBUSTNESS, K::TYPE)?;
        Ok(this)
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        let mutex = self.shared.lock.get();
        // SAFETY: `create` has initialised the mutex.
        let code = unsafe { libc::pthread_mutex_lock(mutex) };
        if code != 0 {
            recover(mutex, code);
        }
        // SAFETY: this worker holds the lock and has no other reference.
        let result = inside(unsafe { self.shared.value() });
        // SAFETY: the mutex is initialised, and this thread holds it.
        let code = unsafe { libc::pthread_mutex_unlock(mutex) };
        if code != 0 {
            fail("pthread_mutex_unlock", code);
        }
        result
    }
}

/// Marks the mutex consistent after an owner death. A count needs no repair.
#[cold]
fn recover(mutex: *mut libc::pthread_mutex_t, code: i32) {
    if code != libc::EOWNERDEAD {
        fail("pthread_mutex_lock", code);
    }
    // SAFETY: the mutex is initialised, and this thread holds it after EOWNERDEAD.
    let code = unsafe { libc::pthread_mutex_consistent(mutex) };
    if code != 0 {
        fail("pthread_mutex_consistent", code);
    }
}

/// Initialises a process-shared mutex at `mutex`.
pub(crate) fn initialise(
    mutex: *mut libc::pthread_mutex_t,
    robustness: i32,
    r#type: i32,
) -> Result<(), Failure> {
    let mut attributes = MaybeUninit::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: the memory has the size of attributes.
    let code = unsafe { libc::pthread_mutexattr_init(attributes) };
    check("pthread_mutexattr_init", code)?;
    // SAFETY: the attributes are initialised.
    let code =
        unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) };
    check("pthread_mutexattr_setpshared", code)?;
    // SAFETY: the attributes are initialised.
    let code = unsafe { libc::pthread_mutexattr_setrobust(attributes, robustness) };
    check("pthread_mutexattr_setrobust", code)?;
    // SAFETY: the attributes are initialised.
    let code = unsafe { libc::pthread_mutexattr_settype(attributes, r#type) };
    check("pthread_mutexattr_settype", code)?;
    // SAFETY: the mutex is not moved, and no thread uses it yet. The attributes are
    // initialised. In glibc they own no memory, so they need not be destroyed.
    let code = unsafe { libc::pthread_mutex_init(mutex, attributes) };
    check("pthread_mutex_init", code)
}

/// Converts the result of a pthread call, which is 0 or an error number.
#[inline]
pub(crate) fn check(call: &'static str, code: i32) -> Result<(), Failure> {
    match code {
        0 => Ok(()),
        number => Err(Failure::errno(call, number)),
    }
}
