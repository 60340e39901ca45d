//! What was dealt out, and what came of it: counts and distributions.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::arena::{Death, Order, Place};
use crate::scenes::Healed;

/// How soon a sleeper learns, by the library's promise.
pub(crate) const PROMISE: Duration = Duration::from_millis(250);

/// Times in nanoseconds.
#[derive(Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    fn new() -> Self {
        const AN_HOUR: u64 = 3_600_000_000_000;
        Self(Histogram::new_with_max(AN_HOUR, 3).expect("the bounds are sound"))
    }

    fn note(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// How many were longer than that.
    pub(crate) fn longer_than(&self, limit: Duration) -> u64 {
        let limit = limit.as_nanos() as u64;
        self.count() - self.0.count_between(0, limit)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let at = |quantile| readable(self.0.value_at_quantile(quantile));
        let (median, high, higher) = (at(0.5), at(0.99), at(0.999));
        let max = readable(self.0.max());
        write!(
            f,
            "{:>8}  median {median:>8}  p99 {high:>8}  p99.9 {higher:>8}  max {max:>8}",
            self.count()
        )
    }
}

/// Three digits and a unit.
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
pub(crate) struct Tally {
    pub(crate) duration: Duration,
    /// How many kills were dealt.
    pub(crate) kill_cards: u64,
    /// How many of the dealt ones have ended a process.
    pub(crate) kills: u64,
    pub(crate) stops: u64,
    pub(crate) calms: u64,
    /// By [`Order`].
    pub(crate) orders: [u64; Order::ALL.len()],
    /// How many cards were dealt.
    pub(crate) cards: u64,
    /// A hash of all of them: who has the same has been dealt the same.
    pub(crate) digest: u64,
    /// How many changes are in the ledger.
    pub(crate) changes: u64,
    /// How many items were taken from the queue.
    pub(crate) taken: u64,
    /// From the kill to the next lock, by [`Place`].
    pub(crate) recoveries: [Times; Place::ALL.len()],
    /// Deaths that were not by SIGKILL of the conductor.
    pub(crate) other_deaths: u64,
    /// Deaths of those who had just taken the lock, or were about to give it back.
    pub(crate) nameless_deaths: u64,
    pub(crate) woken_waiter_died: Times,
    pub(crate) holder_died: Times,
    pub(crate) inherited: Times,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            duration: Duration::ZERO,
            kill_cards: 0,
            kills: 0,
            stops: 0,
            calms: 0,
            orders: [0; Order::ALL.len()],
            cards: 0,
            // FNV-1a.
            digest: 0xcbf2_9ce4_8422_2325,
            changes: 0,
            taken: 0,
            recoveries: [Times::new(), Times::new(), Times::new()],
            other_deaths: 0,
            nameless_deaths: 0,
            woken_waiter_died: Times::new(),
            holder_died: Times::new(),
            inherited: Times::new(),
        }
    }

    pub(crate) fn note_card(&mut self, seat: usize, card: &dyn fmt::Display) {
        self.cards += 1;
        for byte in format!("{seat} {card}").bytes() {
            self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn note_recovery(&mut self, place: Place, nanoseconds: u64) {
        self.recoveries[place as usize].note(nanoseconds);
    }

    pub(crate) fn note_other_death(&mut self, death: Death) {
        match death.pid {
            0 => self.nameless_deaths += 1,
            _ => self.other_deaths += 1,
        }
    }

    pub(crate) fn note_healed(&mut self, healed: &Healed) {
        for &time in &healed.woken_waiter_died {
            self.woken_waiter_died.note(time);
        }
        for &time in &healed.holder_died {
            self.holder_died.note(time);
        }
        for &time in &healed.inherited {
            self.inherited.note(time);
        }
    }

    pub(crate) fn died_with_a_lock(&self) -> u64 {
        self.recoveries.iter().map(Times::count).sum()
    }
}
