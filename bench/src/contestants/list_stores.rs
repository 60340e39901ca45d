//! The stores of a robust lock, for one thread: a lower bound.
//!
//! These are two exchanges of the lock word, as in `std::sync`, and the stores by which
//! the kernel would find the word if the thread died between any two instructions
//! ([robust futex ABI](https://docs.kernel.org/locking/robust-futex-ABI.html)). The
//! list has room for one lock. It is not registered, so nothing survives.

use std::mem::size_of;
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

/// Stores a word before each later store of the machine code.
#[inline]
fn store(word: &AtomicUsize, value: usize) {
    word.store(value, Ordering::Relaxed);
    compiler_fence(Ordering::SeqCst);
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
        let entry = std::ptr::from_ref(next).addr();
        HEAD.with(|Head { first, pending }| {
            store(pending, entry);
            let exchanged = word.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
            if let Err(holder) = exchanged {
                fail("another thread has the lock", holder);
            }
            store(next, first.load(Ordering::Relaxed));
            store(first, entry);
            store(pending, 0);
        });
        // SAFETY: only the thread that changed the word from 0 to 1 has the lock.
        let result = inside(unsafe { self.shared.value() });
        HEAD.with(|Head { first, pending }| {
            store(pending, entry);
            store(first, next.load(Ordering::Relaxed));
            word.swap(0, Ordering::Release);
            store(pending, 0);
        });
        result
    }
}
