//! The readers-writer lock of the C library, process-shared. It is not robust: after
//! the death of a reader, writers wait forever.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use super::contestants::{Pair, ReadersWriter};
use crate::contestants::check;
use crate::failure::Failure;
use crate::series::Survives;
use crate::shared::{Shared, Zeroed};

/// A `pthread_rwlock_t` beside its data.
pub(super) struct Pthread(Shared<Guarded>);

#[repr(C, align(64))]
struct Guarded {
    lock: UnsafeCell<libc::pthread_rwlock_t>,
    pair: UnsafeCell<Pair>,
}

// SAFETY: threads may share the lock. Readers only read the numbers, and a writer has
// the lock for itself.
unsafe impl Sync for Guarded {}
// SAFETY: `create` initialises the lock before the first use, and zeros are numbers.
// Neither refers to a process.
unsafe impl Zeroed for Guarded {}

impl Pthread {
    #[inline]
    fn unlock(&self) -> Result<(), Failure> {
        // SAFETY: the lock is initialised, and this thread has locked it.
        let code = unsafe { libc::pthread_rwlock_unlock(self.0.lock.get()) };
        check("pthread_rwlock_unlock", code)
    }
}

impl ReadersWriter for Pthread {
    const NAME: &'static str = "pthread_rwlock";
    const SURVIVES: Survives = Survives::Nothing;

    fn create() -> Result<Self, Failure> {
        let shared = Shared::<Guarded>::zeroed()?;
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: the memory has the size of attributes.
        let code = unsafe { libc::pthread_rwlockattr_init(attributes) };
        check("pthread_rwlockattr_init", code)?;
        let is_shared = libc::PTHREAD_PROCESS_SHARED;
        // SAFETY: the attributes are initialised.
        let code = unsafe { libc::pthread_rwlockattr_setpshared(attributes, is_shared) };
        check("pthread_rwlockattr_setpshared", code)?;
        // SAFETY: the lock is not moved, and no thread uses it yet. The attributes are
        // initialised. In glibc they own no memory, so they need not be destroyed.
        let code = unsafe { libc::pthread_rwlock_init(shared.lock.get(), attributes) };
        check("pthread_rwlock_init", code)?;
        Ok(Self(shared))
    }

    #[inline]
    fn read(&self, look: impl FnOnce(&Pair)) -> Result<(), Failure> {
        // SAFETY: `create` has initialised the lock.
        let code = unsafe { libc::pthread_rwlock_rdlock(self.0.lock.get()) };
        check("pthread_rwlock_rdlock", code)?;
        // SAFETY: this thread has locked for reading, so no thread writes.
        look(unsafe { &*self.0.pair.get() });
        self.unlock()
    }

    #[inline]
    fn write(&self, change: impl FnOnce(&mut Pair)) -> Result<(), Failure> {
        // SAFETY: `create` has initialised the lock.
        let code = unsafe { libc::pthread_rwlock_wrlock(self.0.lock.get()) };
        check("pthread_rwlock_wrlock", code)?;
        // SAFETY: this thread has locked for writing, so no other thread has a
        // reference.
        change(unsafe { &mut *self.0.pair.get() });
        self.unlock()
    }
}
