//! The clock that all processes of the machine share.

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds on [`CLOCK_MONOTONIC`], which is read without a system call.
///
/// [`CLOCK_MONOTONIC`]: https://man7.org/linux/man-pages/man2/clock_gettime.2.html
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
    time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_go_back() {
        let before = now();
        assert!(now() >= before);
    }
}
