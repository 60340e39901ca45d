//! Counts and distributions: what the supervisor has done, and what came of it.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::findings::{OwnerDeath, Site};
use crate::scenarios::RecoveryTimes;
use crate::slot::Command;

/// The time within which the library promises that a waiter recovers.
pub(crate) const PROMISE: Duration = Duration::from_millis(250);

/// Times in nanoseconds.
#[derive(Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    fn new() -> Self {
        const AN_HOUR: u64 = 3_600_000_000_000;
        Self(Histogram::new_with_max(AN_HOUR, 3).expect("the bounds are valid"))
    }

    fn add(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Counts the times that are longer than this.
    pub(crate) fn longer_than(&self, limit: Duration) -> u64 {
        let limit = limit.as_nanos() as u64;
        self.count() - self.0.count_between(0, limit)
    }

    /// Returns median, 99th and 99.9th percentile and maximum, if there are any times.
    pub(crate) fn summary(&self) -> Option<[String; 4]> {
        if self.0.is_empty() {
            return None;
        }
        let at = |quantile| readable(self.0.value_at_quantile(quantile));
        Some([at(0.5), at(0.99), at(0.999), readable(self.0.max())])
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some([median, high, higher, max]) = self.summary() else {
            return f.write_str("none");
        };
        write!(
            f,
            "{:>8}  median {median:>8}  p99 {high:>8}  p99.9 {higher:>8}  max {max:>8}",
            self.count()
        )
    }
}

/// Returns three digits and a unit.
fn readable(nanoseconds: u64) -> String {
    match nanoseconds as f64 {
        n if n < 999.5 => format!("{n:.0} ns"),
        n if n < 9_995.0 => format!("{:.2} µs", n / 1e3),
        n if n < 999_500.0 => format!("{:.0} µs", n / 1e3),
        n if n < 9_995_000.0 => format!("{:.2} ms", n / 1e6),
        n if n < 999.5e6 => format!("{:.0} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

#[derive(Debug)]
pub(crate) struct Statistics {
    pub(crate) duration: Duration,
    /// The number of actions.
    pub(crate) actions: u64,
    /// A hash of all actions and their slots, for the comparison of two runs.
    pub(crate) digest: u64,
    /// The number of actions that are kills.
    pub(crate) kill_actions: u64,
    /// The number of kills that have ended a process.
    pub(crate) kills: u64,
    pub(crate) stops: u64,
    pub(crate) checkpoints: u64,
    /// Commands, by [`Command`].
    pub(crate) commands: [u64; Command::ALL.len()],
    /// The changes in the ledger, at the last checkpoint.
    pub(crate) changes: u64,
    /// The items taken from the queue, at the last checkpoint.
    pub(crate) taken: u64,
    /// From the kill of a holder to the next lock, by [`Site`].
    pub(crate) next_lock: [Times; Site::ALL.len()],
    /// Reported owner deaths that no kill of the supervisor has caused.
    pub(crate) other_deaths: u64,
    /// Reported owner deaths without a process id: of processes that died close to the
    /// exchange of the lock word.
    pub(crate) anonymous_deaths: u64,
    pub(crate) woken_waiter_died: Times,
    pub(crate) holder_died: Times,
    pub(crate) locked: Times,
}

impl Statistics {
    pub(crate) fn new() -> Self {
        Self {
            duration: Duration::ZERO,
            actions: 0,
            // FNV-1a.
            digest: 0xcbf2_9ce4_8422_2325,
            kill_actions: 0,
            kills: 0,
            stops: 0,
            checkpoints: 0,
            commands: [0; Command::ALL.len()],
            changes: 0,
            taken: 0,
            next_lock: [Times::new(), Times::new(), Times::new()],
            other_deaths: 0,
            anonymous_deaths: 0,
            woken_waiter_died: Times::new(),
            holder_died: Times::new(),
            locked: Times::new(),
        }
    }

    pub(crate) fn note_action(&mut self, slot: usize, action: &dyn fmt::Display) {
        self.actions += 1;
        for byte in format!("{slot} {action}").bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn note_next_lock(&mut self, site: Site, nanoseconds: u64) {
        self.next_lock[site as usize].add(nanoseconds);
    }

    pub(crate) fn note_other_death(&mut self, death: OwnerDeath) {
        match death.pid {
            0 => self.anonymous_deaths += 1,
            _ => self.other_deaths += 1,
        }
    }

    pub(crate) fn note_recovery(&mut self, times: &RecoveryTimes) {
        for &time in &times.woken_waiter_died {
            self.woken_waiter_died.add(time);
        }
        for &time in &times.holder_died {
            self.holder_died.add(time);
        }
        for &time in &times.locked {
            self.locked.add(time);
        }
    }

    /// Counts the kills of holders that a next holder has reported.
    pub(crate) fn killed_holders(&self) -> u64 {
        self.next_lock.iter().map(Times::count).sum()
    }
}
