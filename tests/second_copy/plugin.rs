//! A plug-in with a copy of the crate of its own, for `tests/mutex/c_peers.rs`.

use shm_sync::{LockError, ShmMutex};

/// Takes the locks one after the other and keeps them, until one is refused as one too
/// many. Returns how many it got, or -1 if it met anything else.
///
/// # Safety
///
/// `locks` points at `len` placed mutexes, which are mapped for as long as the calling
/// thread lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn second_copy_take(locks: *const ShmMutex<u32>, len: usize) -> isize {
    // SAFETY: the caller's promise.
    let locks = unsafe { std::slice::from_raw_parts(locks, len) };
    for (taken, lock) in locks.iter().enumerate() {
        match lock.lock() {
            Ok(guard) => std::mem::forget(guard),
            Err(LockError::TooManyLocks) => return taken.cast_signed(),
            Err(_) => return -1,
        }
    }
    len.cast_signed()
}
