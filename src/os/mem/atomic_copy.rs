//! Copies from and to memory that other threads and processes may access at the same
//! time.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Copies `len` bytes by relaxed atomic loads.
///
/// Numbers of up to eight bytes that are aligned to their size are not torn. Larger
/// parts of the copy may mix bytes of different moments.
///
/// # Safety
///
/// * `from` is valid for atomic loads of `len` bytes. The memory may be read-only.
/// * `to` is valid for writes of `len` bytes, and does not overlap with `from`.
#[inline]
pub(crate) unsafe fn copy_relaxed(from: *const u8, to: *mut u8, len: usize) {
    let mut at = 0;
    // The usual case, in a loop that the compiler can unroll.
    if from.addr() % 8 == 0 {
        while len - at >= 8 {
            // SAFETY: `from` is valid for `len` bytes, and eight or more are left.
            let from = unsafe { from.add(at) };
            // SAFETY: it is aligned and valid for atomic loads of eight bytes.
            let shared = unsafe { AtomicU64::from_ptr(from.cast_mut().cast()) };
            let bytes = shared.load(Ordering::Relaxed);
            // SAFETY: `to` is valid for `len` bytes, and eight or more are left.
            let to = unsafe { to.add(at) };
            // SAFETY: it is valid for writes of eight bytes. It may be unaligned.
            unsafe { to.cast::<u64>().write_unaligned(bytes) };
            at += 8;
        }
    }
    while at < len {
        // SAFETY: `from` is valid for `len` bytes, and `at` is less.
        let from = unsafe { from.add(at) };
        // SAFETY: `to` is valid for `len` bytes, and `at` is less.
        let to = unsafe { to.add(at) };
        let left = len - at;
        // Only relaxed loads are permitted on read-only memory. A caller that needs an
        // order adds a fence.
        macro_rules! piece {
            ($atomic:ty, $plain:ty) => {{
                // SAFETY: aligned, as the `match` below checks, and `from` is valid for
                // atomic loads of the `left` bytes.
                let shared = unsafe { <$atomic>::from_ptr(from.cast_mut().cast()) };
                let bytes = shared.load(Ordering::Relaxed);
                // SAFETY: `to` is valid for writes of `left` bytes. It may be
                // unaligned.
                unsafe { to.cast::<$plain>().write_unaligned(bytes) };
                size_of::<$plain>()
            }};
        }
        at += match from.addr() {
            address if address % 8 == 0 && left >= 8 => piece!(AtomicU64, u64),
            address if address % 4 == 0 && left >= 4 => piece!(AtomicU32, u32),
            address if address % 2 == 0 && left >= 2 => piece!(AtomicU16, u16),
            _ => piece!(AtomicU8, u8),
        };
    }
}

/// Gives bytes that the program has not initialised, such as padding, some value. The
/// other bytes stay as they are.
pub(crate) fn initialise_rest<T>(value: &mut MaybeUninit<T>) {
    // Miri knows no assembly code. The types in its tests have no padding.
    #[cfg(not(miri))]
    // SAFETY: the code is empty, so it changes no register, no flag and no memory. The
    // compiler knows the address only, and must take it that the code has written to
    // every byte there, because no option forbids that.
    unsafe {
        std::arch::asm!("/* {0} */", in(reg) value.as_mut_ptr(), options(nostack, preserves_flags));
    }
    let _ = value;
}

/// Stores `len` bytes by relaxed atomic stores.
///
/// Numbers of up to eight bytes that are aligned to their size are not torn.
///
/// # Safety
///
/// * `from` is valid for reads of `len` bytes, all of which are initialised.
/// * `to` is valid for atomic stores of `len` bytes, and does not overlap with `from`.
#[inline]
pub(crate) unsafe fn store_relaxed(from: *const u8, to: *mut u8, len: usize) {
    let mut at = 0;
    // The usual case, in a loop that the compiler can unroll.
    if to.addr() % 8 == 0 {
        while len - at >= 8 {
            // SAFETY: `from` is valid for `len` bytes, and eight or more are left.
            let from = unsafe { from.add(at) };
            // SAFETY: it is valid for reads of eight bytes. It may be unaligned.
            let bytes = unsafe { from.cast::<u64>().read_unaligned() };
            // SAFETY: `to` is valid for `len` bytes, and eight or more are left.
            let to = unsafe { to.add(at) };
            // SAFETY: it is aligned and valid for atomic stores of eight bytes.
            let shared = unsafe { AtomicU64::from_ptr(to.cast()) };
            shared.store(bytes, Ordering::Relaxed);
            at += 8;
        }
    }
    while at < len {
        // SAFETY: `from` is valid for `len` bytes, and `at` is less.
        let from = unsafe { from.add(at) };
        // SAFETY: `to` is valid for `len` bytes, and `at` is less.
        let to = unsafe { to.add(at) };
        let left = len - at;
        macro_rules! piece {
            ($atomic:ty, $plain:ty) => {{
                // SAFETY: `from` is valid for reads of `left` bytes. It may be
                // unaligned.
                let bytes = unsafe { from.cast::<$plain>().read_unaligned() };
                // SAFETY: aligned, as the `match` below checks, and `to` is valid for
                // atomic stores of the `left` bytes.
                let shared = unsafe { <$atomic>::from_ptr(to.cast()) };
                shared.store(bytes, Ordering::Relaxed);
                size_of::<$plain>()
            }};
        }
        at += match to.addr() {
            address if address % 8 == 0 && left >= 8 => piece!(AtomicU64, u64),
            address if address % 4 == 0 && left >= 4 => piece!(AtomicU32, u32),
            address if address % 2 == 0 && left >= 2 => piece!(AtomicU16, u16),
            _ => piece!(AtomicU8, u8),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoke() {
        let source: Vec<u8> = (0..64).collect();
        for start in 0..9 {
            for len in 0..40 {
                let mut copied = vec![0xff; len + 1];
                // SAFETY: the source has at least `start + len` bytes, and the copy has
                // `len + 1`. They are separate vectors.
                unsafe { copy_relaxed(source[start..].as_ptr(), copied.as_mut_ptr(), len) };
                assert_eq!(copied[..len], source[start..start + len]);
                assert_eq!(copied[len], 0xff);

                let mut stored = vec![0xff; start + len + 1];
                let to = stored[start..].as_mut_ptr();
                // SAFETY: the source has at least `len` bytes, and the target has one
                // more from `to` on. They are separate vectors, and no other thread has
                // them.
                unsafe { store_relaxed(source.as_ptr(), to, len) };
                assert_eq!(stored[start..start + len], source[..len]);
                assert_eq!(stored[start + len], 0xff);
            }
        }
    }
}
