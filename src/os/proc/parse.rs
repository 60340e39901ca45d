//! Parts of a line, and errors, as every file in `/proc` has them.

use std::io;

/// A process that ends while one reads of it is a process that is not there.
pub(super) fn esrch_to_not_found(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ESRCH) => io::ErrorKind::NotFound.into(),
        _ => error,
    }
}

pub(super) fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if !digits.first()?.is_ascii_alphanumeric() {
        return None; // a sign
    }
    u64::from_str_radix(str::from_utf8(digits).ok()?, radix).ok()
}
