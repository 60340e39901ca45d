//! The stores of a robust lock: a lower bound.
//!
//! These are the stores by which the kernel would find a lock word if the thread died
//! between any two instructions
//! ([robust futex ABI](https://docs.kernel.org/locking/robust-futex-ABI.html)). The
//! list has room for one lock. It is not registered, so nothing survives.
//!
//! The contestant here is for one thread: two exchanges of the lock word, as in
//! `std::sync`, with the stores.

use std::mem::size_of;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering, compiler_fence};

use super::guarded::Guarded;
use super::lock::{Cost, Lock, Profile, Scope, fail};
use crate::failure::Failure;
use crate::series::{LIST_STORES, Survives};
use crate::shared::{Shared, Zeroed};

/// The head of a thread's list.
struct Head {
    first: AtomicUsize,
    pending: AtomicUsize,
}

thread_local! {
    static HEAD: Head = const {
        Head { first: AtomicUsize::new(0), pending: AtomicUsize::new(0) }
    };
}

/// Stores a word before each later store of the machine code.
#[inline]
fn store(word: &AtomicUsize, value: usize) {
    word.store(value, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
}

/// Locks, works and unlocks, with the stores for a lock whose place on the list is
/// `next`.
#[inline]
pub(super) fn with_list_stores<G, R>(
    next: &AtomicUsize,
    lock: impl FnOnce() -> G,
    inside: impl FnOnce() -> R,
    unlock: impl FnOnce(G),
) -> R {
    let entry = ptr::from_ref(next).addr();
    HEAD.with(|Head { first, pending }| {
        store(pending, entry);
        let guard = lock();
        store(next, first.load(Ordering::Relaxed));
        store(first, entry);
        store(pending, 0);
        let result = inside();
        store(pending, entry);
        store(first, next.load(Ordering::Relaxed));
        unlock(guard);
        store(pending, 0);
        result
    })
}

/// A lock word, and its place on the list.
#[derive(Debug)]
#[repr(C)]
struct Entry {
    next: AtomicUsize,
    word: AtomicU32,
}

// SAFETY: zeros are valid numbers. No thread follows `next`.
unsafe impl Zeroed for Entry {}

/// A lock without contention.
#[derive(Debug)]
pub(crate) struct ListStores {
    shared: Shared<Guarded<Entry>>,
}

impl Lock for ListStores {
    const PROFILE: Profile = Profile {
        name: LIST_STORES,
        survives: Survives::DoesNotApply,
        tells: false,
        scope: Scope::Threads,
        cost: Cost::AtomicInstructions,
        bytes: size_of::<Entry>(),
    };

    fn create() -> Result<Self, Failure> {
        Ok(Self {
            shared: Shared::zeroed()?,
        })
    }

    #[inline]
    fn with<R>(&self, inside: impl FnOnce(&mut u64) -> R) -> R {
        let Entry { next, word } = &self.shared.lock;
        with_list_stores(
            next,
            || {
                let exchanged = word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
                if let Err(holder) = exchanged {
                    fail("another thread has the lock", holder);
                }
            },
            // SAFETY: only the thread that changed the word from 0 to 1 has the lock.
            // It has no other reference to the number.
            || inside(unsafe { self.shared.value() }),
            |()| {
                word.swap(0, Ordering::Release);
            },
        )
    }
}
