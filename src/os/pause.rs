//! A pause of the calling thread, for changes of which the kernel does not inform.

use std::time::Duration;

use super::clock::Deadline;
use super::timer_slack::punctually;

/// Calls [`ppoll(2)`](https://man7.org/linux/man-pages/man2/ppoll.2.html) without
/// descriptors. Sleeps for `span`, or until a signal arrives. It is only for changes
/// for which the kernel has no event.
///
/// A large timer slack of the thread does not prolong the sleep
/// ([`timer_slack`](super::timer_slack)).
pub(crate) fn pause(span: Duration) {
    let timeout = libc::timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: libc::c_long::from(span.subsec_nanos() as i32),
    };
    let (no_files, no_mask) = (std::ptr::null_mut(), std::ptr::null());
    // SAFETY: the call gets no descriptors and no signal mask. `timeout` is valid and
    // outlives the call.
    punctually(Deadline::after(span), || unsafe {
        libc::ppoll(no_files, 0, &raw const timeout, no_mask)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn timer_slack_does_not_prolong_a_pause() {
        let slack: libc::c_ulong = 3_000_000_000;
        let paused = std::thread::spawn(move || {
            // SAFETY: the call accesses no memory. It changes this thread only.
            let code = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, slack) };
            assert_eq!(code, 0);
            let before = Instant::now();
            pause(Duration::from_millis(1));
            before.elapsed()
        });
        let paused = paused.join().expect("the test passes");
        assert!(paused >= Duration::from_millis(1), "{paused:?}");
        assert!(paused < Duration::from_millis(500), "{paused:?}");
    }
}
