//! A value in memory that forked processes share.

use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::failure::Failure;

/// What is a value when all its bytes are zero, and may be used by many at once.
///
/// # Safety
///
/// All bytes zero is a valid value of the type, and nothing in it refers to the
/// process that made it.
pub(crate) unsafe trait Zeroed: Sync {}

// SAFETY: an atomic bool of zero is false, and it refers to nothing.
unsafe impl Zeroed for AtomicBool {}
// SAFETY: an atomic number of zero is zero, and it refers to nothing.
unsafe impl Zeroed for AtomicU32 {}
// SAFETY: as above.
unsafe impl Zeroed for AtomicU64 {}
// SAFETY: so is an array if all its elements are.
unsafe impl<T: Zeroed, const N: usize> Zeroed for [T; N] {}

/// A `T` in anonymous shared memory: children forked while it exists share it.
///
/// It starts at the beginning of a page. No destructor of `T` runs.
#[derive(Debug)]
pub(crate) struct Shared<T: Zeroed> {
    value: NonNull<T>,
}

// SAFETY: it owns its mapping, and lends nothing but `&T`, of a type that is `Sync`.
unsafe impl<T: Zeroed> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Zeroed> Sync for Shared<T> {}

impl<T: Zeroed> Shared<T> {
    const LEN: NonZeroUsize = NonZeroUsize::new(size_of::<T>()).expect("not empty");

    /// Makes one, of zeros.
    pub(crate) fn zeroed() -> Result<Self, Failure> {
        const { assert!(align_of::<T>() <= 4096, "mappings begin where pages do") };
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses a free place, so nothing is overwritten.
        let value = unsafe { mmap_anonymous(None, Self::LEN, protection, MapFlags::MAP_SHARED) }
            .map_err(Failure::of("mmap"))?
            .cast();
        Ok(Self { value })
    }
}

impl<T: Zeroed> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the mapping is as long as a T and aligned to a page; it was zeros,
        // which is a T, and stays mapped for as long as `self` is there.
        unsafe { self.value.as_ref() }
    }
}

impl<T: Zeroed> Drop for Shared<T> {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and nobody borrows from it any more.
        let _ = unsafe { munmap(self.value.cast(), Self::LEN.get()) };
    }
}
