//! Monotonic time: absolute deadlines that do not depend on the wall clock.

use std::time::{Duration, Instant, SystemTime};

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// Longest time between two reads of the words that a waiter waits for.
///
/// A waiter that misses its wake-up, because the process that should wake it has died,
/// notices after this time. The public promise is 250 ms, which includes the time to
/// run again. `docs/decisions/recheck-interval.md` has the reasons for the value.
pub(crate) const RECHECK_INTERVAL: Duration = Duration::from_millis(150);

/// A point on `CLOCK_MONOTONIC`, in nanoseconds since the clock's start.
///
/// All processes of the machine share the clock, so a deadline has the same meaning for
/// each of them. Arithmetic saturates at `u64::MAX` nanoseconds, which is 584 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline {
    nanos: u64,
}

impl Deadline {
    /// Calls [`clock_gettime(2)`](https://man7.org/linux/man-pages/man2/clock_gettime.2.html)
    /// for `CLOCK_MONOTONIC`.
    pub(crate) fn now() -> Self {
        let mut now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `now` is valid for writes. The call does not fail, because Linux
        // always has CLOCK_MONOTONIC.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
        Self {
            nanos: seconds.saturating_mul(NANOS_PER_SEC).saturating_add(nanos),
        }
    }

    /// Returns the point `timeout` after now.
    pub(crate) fn after(timeout: Duration) -> Self {
        Self::now().plus(timeout)
    }

    /// Returns the point `span` after this one.
    pub(crate) fn plus(self, span: Duration) -> Self {
        let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self {
            nanos: self.nanos.saturating_add(span),
        }
    }

    /// Converts an `Instant`, which std reads from the same clock. A point in the past
    /// becomes now.
    pub(crate) fn at(instant: Instant) -> Self {
        Self::after(instant.saturating_duration_since(Instant::now()))
    }

    /// Returns the next multiple of `period` after now. All processes compute the same
    /// points, so that their timers expire together.
    pub(crate) fn next_multiple_of(period: Duration) -> Self {
        let period = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX).max(1);
        let ticks = Self::now().nanos / period + 1;
        Self {
            nanos: ticks.saturating_mul(period),
        }
    }

    /// Returns the next multiple of [`RECHECK_INTERVAL`], or `limit` if that is
    /// earlier.
    pub(crate) fn next_recheck(limit: Option<Self>) -> Self {
        let recheck = Self::next_multiple_of(RECHECK_INTERVAL);
        limit.map_or(recheck, |limit| limit.min(recheck))
    }

    /// Returns a number that differs between processes and between points in time, so
    /// that two processes do not retry at the same time.
    pub(crate) fn mixed_with(self, process: u32) -> u64 {
        let mixed = self.nanos ^ u64::from(process) << 32;
        mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
    }

    /// Returns whether this point is not in the future.
    pub(crate) fn has_passed(self) -> bool {
        Self::now() >= self
    }

    /// Converts to `CLOCK_REALTIME`. The result is wrong after that clock has been set.
    pub(super) fn to_wall_clock(self) -> libc::timespec {
        let remaining = self.nanos.saturating_sub(Self::now().nanos);
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        timespec(now.saturating_add(remaining))
    }

    /// Converts to the type of the system calls.
    pub(super) fn to_timespec(self) -> libc::timespec {
        timespec(self.nanos)
    }
}

fn timespec(nanos: u64) -> libc::timespec {
    let (seconds, nanos) = (nanos / NANOS_PER_SEC, nanos % NANOS_PER_SEC);
    libc::timespec {
        tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX),
        tv_nsec: nanos as libc::c_long, // below 10^9, so it fits every c_long
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documented;
    use crate::os::futex::WaitList;
    use crate::os::robust_list::MAX_ROBUST_LOCKS;

    #[test]
    fn smoke() {
        let now = Deadline::now();
        assert!(now.has_passed());
        assert!(!now.plus(Duration::from_secs(60)).has_passed());
    }

    #[test]
    fn arithmetic_saturates() {
        let far = Deadline::after(Duration::MAX);
        assert_eq!(far.nanos, u64::MAX);
        assert_eq!(far.plus(Duration::MAX), far);
        let spec = far.to_timespec();
        assert!((0..1_000_000_000).contains(&spec.tv_nsec));
        assert!(spec.tv_sec > 0);
    }

    #[test]
    fn nanoseconds_carry_into_seconds() {
        let point = Deadline { nanos: 999_999_999 }.plus(Duration::from_nanos(2));
        let spec = point.to_timespec();
        assert_eq!((spec.tv_sec, spec.tv_nsec), (1, 1));
    }

    #[test]
    fn next_multiple_is_aligned_and_in_the_future() {
        let period = Duration::from_millis(150);
        let before = Deadline::now();
        let next = Deadline::next_multiple_of(period);
        assert_eq!(next.nanos % 150_000_000, 0);
        assert!(next > before);
        assert!(next <= Deadline::now().plus(period));
    }

    #[test]
    fn instant_in_the_past_becomes_now() {
        let past = Instant::now() - Duration::from_millis(5);
        assert!(Deadline::at(past).has_passed());
        assert!(!Deadline::at(Instant::now() + Duration::from_secs(60)).has_passed());
    }

    #[test]
    fn numbers_are_documented() {
        documented::values(
            "times",
            &[
                ("RECHECK_INTERVAL", RECHECK_INTERVAL.as_millis() as u64),
                ("MAX_ROBUST_LOCKS", MAX_ROBUST_LOCKS.into()),
                ("FUTEX_WAITV_MAX", WaitList::CAPACITY as u64),
            ],
        );
    }
}
