//! The pthread mutex of the C library, as a careful C program has it.

use std::marker::PhantomData;
use std::mem::{MaybeUninit, size_of};

use super::guarded::{Foreign, Guarded};
use super::{Cost, Lock, Profile, Scope, broken};
use crate::failure::Failure;
use crate::report::Survives;
use crate::shared::Shared;

/// Which kind of mutex.
pub(crate) trait Kind: Sync + 'static {
    const NAME: &'static str;
    const SURVIVES: Survives;
    /// `PTHREAD_MUTEX_STALLED` or `PTHREAD_MUTEX_ROBUST`.
    const ROBUSTNESS: i32;
    /// `PTHREAD_MUTEX_NORMAL` or `PTHREAD_MUTEX_ERRORCHECK`.
    const TYPE: i32;
}

/// Process-shared, and nothing else.
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
    shared: Shared<Guarded<Foreign<libc::pthread_mutex_t>>>,
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

    fn make() -> Result<Self, Failure> {
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
        // SAFETY: `make` initialised it.
        let code = unsafe { libc::pthread_mutex_lock(mutex) };
        if code != 0 {
            inherit(mutex, code);
        }
        // SAFETY: the lock is held.
        let result = inside(unsafe { self.shared.value() });
        // SAFETY: it is initialised, and held by this thread.
        let code = unsafe { libc::pthread_mutex_unlock(mutex) };
        if code != 0 {
            broken("pthread_mutex_unlock", code);
        }
        result
    }
}

/// What a robust program does when the last holder died. A count needs no repair.
#[cold]
fn inherit(mutex: *mut libc::pthread_mutex_t, code: i32) {
    if code != libc::EOWNERDEAD {
        broken("pthread_mutex_lock", code);
    }
    // SAFETY: it is initialised, and EOWNERDEAD says that this thread holds it.
    let code = unsafe { libc::pthread_mutex_consistent(mutex) };
    if code != 0 {
        broken("pthread_mutex_consistent", code);
    }
}

/// Makes a process-shared mutex at `mutex`.
pub(crate) fn initialise(
    mutex: *mut libc::pthread_mutex_t,
    robustness: i32,
    r#type: i32,
) -> Result<(), Failure> {
    let mut attributes = MaybeUninit::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: it is room for attributes.
    let code = unsafe { libc::pthread_mutexattr_init(attributes) };
    check("pthread_mutexattr_init", code)?;
    // SAFETY: the attributes are initialised.
    let code =
        unsafe { libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED) };
    check("pthread_mutexattr_setpshared", code)?;
    // SAFETY: as above.
    let code = unsafe { libc::pthread_mutexattr_setrobust(attributes, robustness) };
    check("pthread_mutexattr_setrobust", code)?;
    // SAFETY: as above.
    let code = unsafe { libc::pthread_mutexattr_settype(attributes, r#type) };
    check("pthread_mutexattr_settype", code)?;
    // SAFETY: the mutex lies where it stays, and nobody uses it yet. In glibc
    // attributes own nothing, so that it does no harm if they are not destroyed.
    let code = unsafe { libc::pthread_mutex_init(mutex, attributes) };
    check("pthread_mutex_init", code)
}

/// What the calls return: 0, or an error number.
#[inline]
pub(crate) fn check(call: &'static str, code: i32) -> Result<(), Failure> {
    match code {
        0 => Ok(()),
        number => Err(Failure::number(call, number)),
    }
}
