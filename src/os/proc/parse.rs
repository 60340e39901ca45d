//! Numbers and errors that all files in `/proc` have in common.

use std::io;

/// Replaces `ESRCH` by `NotFound`. The kernel returns it if a process ends between
/// opening and reading its file.
pub(super) fn esrch_to_not_found(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ESRCH) => io::ErrorKind::NotFound.into(),
        _ => error,
    }
}

/// Parses a number without a sign.
pub(super) fn number(digits: &[u8], radix: u32) -> Option<u64> {
    if !digits.first()?.is_ascii_alphanumeric() {
        return None; // `from_str_radix` accepts a sign
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}
