//! A target, and what a run measured.

use std::fmt;

use crate::series::{Measure, SHM_SYNC, Series, Survives, distinct, is_reference};
use crate::stats::{median, ratios};

/// A target and the measured value.
#[derive(Debug)]
pub(crate) struct Target {
    pub(super) what: String,
    pub(super) bound: Bound,
    pub(super) measured: f64,
    pub(super) unit: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    AtMost(f64),
    Below(f64),
    AtLeast(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::Below(bound) => value < bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "at most {bound}"),
            Self::Below(bound) => write!(f, "below {bound}"),
            Self::AtLeast(bound) => write!(f, "at least {bound}"),
        }
    }
}

impl Target {
    /// Returns a target for a ratio, if it was measured.
    pub(super) fn ratio(
        what: impl Into<String>,
        bound: Bound,
        measured: Option<f64>,
    ) -> Option<Self> {
        Some(Self {
            what: what.into(),
            bound,
            measured: measured?,
            unit: "",
        })
    }

    pub(crate) fn is_met(&self) -> bool {
        self.bound.holds(self.measured)
    }
}

/// All measured series.
#[derive(Clone, Copy)]
pub(super) struct Run<'a>(pub(super) &'a [Series]);

impl<'a> Run<'a> {
    fn find(self, workload: &str, measure: Measure, contestant: &str) -> Option<&'a Series> {
        self.0.iter().find(|series| {
            series.workload == workload
                && series.measure == measure
                && series.contestant == contestant
        })
    }

    pub(super) fn median(self, workload: &str, measure: Measure, contestant: &str) -> Option<f64> {
        Some(median(&self.find(workload, measure, contestant)?.rounds))
    }

    /// Returns the ratio of two contestants, if both took part.
    pub(super) fn ratio(
        self,
        workload: &str,
        measure: Measure,
        over: &str,
        under: &str,
    ) -> Option<f64> {
        let over = self.find(workload, measure, over)?;
        let under = self.find(workload, measure, under)?;
        Some(median(&ratios(&over.rounds, &under.rounds)))
    }

    /// Returns the other contestants of a workload that survive every kill.
    pub(super) fn crash_safe(self, workload: &str) -> Vec<&'static str> {
        let safe = self.0.iter().filter(|series| {
            series.workload == workload
                && series.survives == Survives::Kills
                && series.contestant != SHM_SYNC
        });
        distinct(safe.map(|series| series.contestant))
    }

    /// Returns the contestants of a workload, without shm-sync and references.
    pub(super) fn peers(self, workload: &str) -> Vec<&'static str> {
        let peers = self.0.iter().filter(|series| {
            series.workload == workload
                && series.contestant != SHM_SYNC
                && !is_reference(series.contestant)
        });
        distinct(peers.map(|series| series.contestant))
    }
}
