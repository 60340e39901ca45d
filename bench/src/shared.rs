//! A value in memory that forked processes share.

use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::failure::Failure;

/// Types that are valid when all their bytes are zero, and that processes may share.
///
/// # Safety
///
/// * All bytes zero are a valid value of the type.
/// * No value refers to the process that created it.
pub(crate) unsafe trait Zeroed: Sync {}

// SAFETY: zero is `false`; a bool refers to nothing.
unsafe impl Zeroed for AtomicBool {}
// SAFETY: zero is a number; a number refers to nothing.
unsafe impl Zeroed for AtomicU32 {}
// SAFETY: zero is a number; a number refers to nothing.
unsafe impl Zeroed for AtomicU64 {}
// SAFETY: both clauses hold for an array if they hold for its elements.
unsafe impl<T: Zeroed, const N: usize> Zeroed for [T; N] {}

/// A `T` in anonymous shared memory. Children that are forked during its lifetime share
/// it.
///
/// It is aligned to a page. No destructor of `T` runs.
#[derive(Debug)]
pub(crate) struct Shared<T: Zeroed> {
    value: NonNull<T>,
}

// SAFETY: a `Shared` owns its mapping and only lends `&T`. `T` is `Sync`, so a
// reference may be used in every thread.
unsafe impl<T: Zeroed> Send for Shared<T> {}
// SAFETY: a `&Shared` only lends `&T`, and `T` is `Sync`.
unsafe impl<T: Zeroed> Sync for Shared<T> {}

impl<T: Zeroed> Shared<T> {
    const LEN: NonZeroUsize = NonZeroUsize::new(size_of::<T>()).expect("not empty");

    /// Maps memory that is all zeros.
    pub(crate) fn zeroed() -> Result<Self, Failure> {
        const { assert!(align_of::<T>() <= 4096, "mappings begin at a page") };
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses a free address, so the call overwrites no mapping.
        let value = unsafe { mmap_anonymous(None, Self::LEN, protection, MapFlags::MAP_SHARED) }
            .map_err(Failure::os("mmap"))?
            .cast();
        Ok(Self { value })
    }
}

impl<T: Zeroed> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the mapping is aligned to a page and `size_of::<T>()` long. Its first
        // contents, zeros, are a valid `T` by `Zeroed`. It stays mapped as long as
        // `self`.
        unsafe { self.value.as_ref() }
    }
}

impl<T: Zeroed> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: `zeroed` mapped this address with this length, and all borrows have
        // ended.
        let _ = unsafe { munmap(self.value.cast(), Self::LEN.get()) };
    }
}
