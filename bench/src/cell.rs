//! The cells of the tables: a median, its interval and a ratio. Plots are drawn from
//! cells, so a plot shows the figures of the report.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::series::{Measure, Series, Survives, table_and_column, three_digits};
use crate::stats::{Interval, median, ratios};

/// What a table shows of a series.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Cell {
    pub(crate) workload: String,
    pub(crate) contestant: String,
    pub(crate) survives: Survives,
    pub(crate) measure: Measure,
    /// The number of rounds. 0 in files of older versions, which have no interval.
    #[serde(default)]
    rounds: usize,
    /// In the unit of the measure.
    pub(crate) median: f64,
    /// The bounds of the [`Interval`] of the median.
    #[serde(default)]
    low: f64,
    #[serde(default)]
    high: f64,
    /// The median of the ratios to the baseline, round by round. `None` for the
    /// baseline.
    pub(crate) ratio: Option<f64>,
}

impl Cell {
    /// Summarises a series. `base` is the series of the baseline.
    pub(crate) fn new(series: &Series, base: Option<&Series>) -> Self {
        let interval = Interval::new(&series.rounds);
        let base = base.filter(|base| base.contestant != series.contestant);
        Self {
            workload: series.workload.clone(),
            contestant: series.contestant.to_owned(),
            survives: series.survives,
            measure: series.measure,
            rounds: interval.values,
            median: median(&series.rounds),
            low: interval.low,
            high: interval.high,
            ratio: base
                .map(|base| median(&ratios(&series.rounds, &base.rounds)))
                .filter(|ratio| ratio.is_finite()),
        }
    }

    /// Summarises all series that have values.
    pub(crate) fn all(series: &[Series], baseline: &str) -> Vec<Self> {
        let base = |own: &Series| {
            series.iter().find(|base| {
                base.contestant == baseline
                    && base.workload == own.workload
                    && base.measure == own.measure
            })
        };
        let measured = series.iter().filter(|series| !series.rounds.is_empty());
        measured.map(|own| Self::new(own, base(own))).collect()
    }

    pub(crate) fn table(&self) -> &str {
        table_and_column(&self.workload).0
    }

    pub(crate) fn column(&self) -> &str {
        table_and_column(&self.workload).1
    }

    /// Formats the median.
    pub(crate) fn value(&self) -> String {
        self.measure.show(self.median)
    }
}

/// Formats the median, its interval in the same unit, and the ratio to the baseline.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.value())?;
        let interval = Interval {
            low: self.low,
            high: self.high,
            values: self.rounds,
        };
        let (unit, _) = self.measure.unit_for(self.median);
        let interval = interval.show(|bound| three_digits(bound / unit));
        if !interval.is_empty() {
            write!(f, " {interval}")?;
        }
        match self.ratio {
            Some(ratio) => write!(f, " ×{}", three_digits(ratio)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(contestant: &'static str, rounds: &[f64]) -> Series {
        Series {
            workload: "wait/2 processes".to_owned(),
            contestant,
            survives: Survives::Kills,
            measure: Measure::Nanos,
            rounds: rounds.to_vec(),
        }
    }

    #[test]
    fn smoke() {
        let all = [
            series("a", &[10.0, 20.0, 30.0]),
            series("b", &[2e3, 40.0, 20.0, 60.0, 5.0, 40.0]),
            series("c", &[5e3]),
            series("left out", &[]),
        ];
        let cells = Cell::all(&all, "a");
        let shown: Vec<String> = cells.iter().map(Cell::to_string).collect();
        assert_eq!(
            shown,
            [
                "20.0 ns [10.0–30.0 of 3]",
                "40.0 ns [5.00–2000] ×2.00",
                "5.00 µs ×500"
            ]
        );
        assert_eq!(cells[0].table(), "wait", "{cells:?}");
        assert_eq!(cells[0].column(), "2 processes", "{cells:?}");
    }
}
