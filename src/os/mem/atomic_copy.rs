//! Reading memory that others may write meanwhile.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Copies `len` bytes, each of which is one that was there, though they need not
/// all have been there together. Numbers of up to eight bytes that lie at multiples
/// of their size are not torn.
///
/// # Safety
///
/// * `from` is valid for atomic reads of `len` bytes. Read-only memory will do.
/// * `to` is valid for writes of as many, and does not overlap with it.
pub(crate) unsafe fn copy_relaxed(from: *const u8, to: *mut u8, len: usize) {
    let mut at = 0;
    while at < len {
        // SAFETY: inside both, as the caller promises.
        let from = unsafe { from.add(at) };
        // SAFETY: as above.
        let to = unsafe { to.add(at) };
        let left = len - at;
        // Relaxed loads are the ones that read-only memory permits; who wants
        // order puts a fence behind.
        macro_rules! piece {
            ($atomic:ty, $plain:ty) => {{
                // SAFETY: aligned, as just checked, and readable.
                let shared = unsafe { <$atomic>::from_ptr(from.cast_mut().cast()) };
                let bytes = shared.load(Ordering::Relaxed);
                // SAFETY: writable; `to` may be unaligned.
                unsafe { to.cast::<$plain>().write_unaligned(bytes) };
                size_of::<$plain>()
            }};
        }
        at += match from.addr() {
            address if address.is_multiple_of(8) && left >= 8 => piece!(AtomicU64, u64),
            address if address.is_multiple_of(4) && left >= 4 => piece!(AtomicU32, u32),
            address if address.is_multiple_of(2) && left >= 2 => piece!(AtomicU16, u16),
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
                // SAFETY: both are long enough.
                unsafe { copy_relaxed(source[start..].as_ptr(), copied.as_mut_ptr(), len) };
                assert_eq!(copied[..len], source[start..start + len]);
                assert_eq!(copied[len], 0xff);
            }
        }
    }
}
