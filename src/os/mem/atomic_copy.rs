//! Copies of memory that other threads and processes may write at the same time.

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
pub(crate) unsafe fn copy_relaxed(from: *const u8, to: *mut u8, len: usize) {
    let mut at = 0;
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
            }
        }
    }
}
