//! A word of shared memory, and the fences, on loom's memory model.
//!
//! `loom` treats sequentially consistent accesses as acquire and release, but it knows
//! the fence. Therefore a thread here has a fence between a write and a read that are
//! both sequentially consistent. For the store-buffer pattern the two are equivalent,
//! and only that pattern needs such accesses. No fence stands between other accesses,
//! because loom's fences order more than C's.

use std::cell::Cell;

use loom::sync::atomic::{self, AtomicU64, Ordering};

loom::thread_local! {
    /// Whether the last sequentially consistent access of this thread was a write.
    static HAS_WRITTEN: Cell<bool> = Cell::new(false);
}

fn before_read(ordering: Ordering) {
    if ordering == Ordering::SeqCst && HAS_WRITTEN.with(|it| it.replace(false)) {
        atomic::fence(Ordering::SeqCst);
    }
}

fn after_write(ordering: Ordering) {
    if ordering == Ordering::SeqCst {
        HAS_WRITTEN.with(|it| it.set(true));
    }
}

/// A fence. `Relaxed` is no fence.
pub(super) fn fence(ordering: Ordering) {
    if ordering != Ordering::Relaxed {
        atomic::fence(ordering);
    }
    if ordering == Ordering::SeqCst {
        HAS_WRITTEN.with(|it| it.set(false));
    }
}

/// Returns the ordering that loom knows.
fn of_load(ordering: Ordering) -> Ordering {
    match ordering {
        Ordering::SeqCst | Ordering::AcqRel => Ordering::Acquire,
        Ordering::Release => Ordering::Relaxed,
        other => other,
    }
}

fn of_store(ordering: Ordering) -> Ordering {
    match ordering {
        Ordering::SeqCst => Ordering::Release,
        other => other,
    }
}

fn of_exchange(ordering: Ordering) -> Ordering {
    match ordering {
        Ordering::SeqCst => Ordering::AcqRel,
        other => other,
    }
}

pub(super) struct Word(AtomicU64);

impl Word {
    pub(super) fn new(value: u64) -> Self {
        Self(AtomicU64::new(value))
    }

    pub(super) fn load(&self, ordering: Ordering) -> u64 {
        before_read(ordering);
        self.0.load(of_load(ordering))
    }

    pub(super) fn store(&self, value: u64, ordering: Ordering) {
        self.0.store(value, of_store(ordering));
        after_write(ordering);
    }

    pub(super) fn swap(&self, value: u64, ordering: Ordering) -> u64 {
        before_read(ordering);
        let before = self.0.swap(value, of_exchange(ordering));
        after_write(ordering);
        before
    }

    pub(super) fn fetch_add(&self, value: u64, ordering: Ordering) -> u64 {
        before_read(ordering);
        let before = self.0.fetch_add(value, of_exchange(ordering));
        after_write(ordering);
        before
    }

    pub(super) fn fetch_sub(&self, value: u64, ordering: Ordering) -> u64 {
        self.fetch_add(value.wrapping_neg(), ordering)
    }

    pub(super) fn fetch_or(&self, value: u64, ordering: Ordering) -> u64 {
        before_read(ordering);
        let before = self.0.fetch_or(value, of_exchange(ordering));
        after_write(ordering);
        before
    }

    pub(super) fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        before_read(success);
        let exchanged = self
            .0
            .compare_exchange(old, new, of_exchange(success), of_load(failure));
        if exchanged.is_ok() {
            after_write(success);
        }
        exchanged
    }
}
