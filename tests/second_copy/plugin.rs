//! A plug-in that contains a second copy of the crate, for `tests/mutex/c_peers.rs`.

use shm_sync::{LockError, ShmMutex};

/// Locks the mutexes in turn and leaks the guards, until one is refused as one too
/// many. Returns the number of locks, or -1 after any other error.
///
/// # Safety
///
/// * `locks` points to `len` placed mutexes.
/// * The mutexes stay mapped as long as the calling thread lives.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn second_copy_take(locks: *const ShmMutex<u32>, len: usize) -> isize {
    // SAFETY: by the first and second clause, `locks` points to `len` mutexes that
    // outlive this thread.
    let locks = unsafe { std::slice::from_raw_parts(locks, len) };
    for (locked, lock) in locks.iter().enumerate() {
        match lock.lock() {
            Ok(guard) => std::mem::forget(guard),
            Err(LockError::TooManyLocks) => return locked as isize,
            Err(_) => return -1,
        }
    }
    len as isize
}
