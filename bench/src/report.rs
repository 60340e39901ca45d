//! What is reported: series of values, and tables of them.
//!
//! A workload's name has up to two parts: what comes after the last `/` is the column
//! in which it is shown, so that `contended/short/2 processes` and
//! `contended/short/4 processes` come to stand in one table.

use std::fmt::Write;

use comfy_table::presets::{ASCII_MARKDOWN, NOTHING};
use comfy_table::{CellAlignment, Table};

use crate::stats::{Summary, median, ratios};

/// What one contestant did in one workload, one value per round. Rounds with the same
/// index ran next to each other.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Such as `contended/short/4 processes`.
    pub(crate) workload: String,
    pub(crate) contestant: &'static str,
    pub(crate) survives: Survives,
    pub(crate) measure: Measure,
    pub(crate) rounds: Vec<f64>,
}

impl Series {
    /// The table that it belongs to, and its column in it.
    pub(crate) fn place(&self) -> (&str, &str) {
        self.workload
            .rsplit_once('/')
            .unwrap_or((&self.workload, ""))
    }
}

/// Whether the others get on when a process is killed inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survives {
    /// Whenever it is killed.
    Kills,
    /// It depends on the moment.
    SomeKills,
    /// They wait for ever, or fail for ever.
    Nothing,
    /// Nobody else is there, or nothing is shared.
    DoesNotApply,
}

impl Survives {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Kills => "kills",
            Self::SomeKills => "some kills",
            Self::Nothing => "nothing",
            Self::DoesNotApply => "-",
        }
    }
}

/// What the values of a series are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    NanosPerOperation,
    OperationsPerSecond,
    /// Operations of the worker with the fewest, as a part of those of the one with
    /// the most.
    MinShareOfMax,
    LatencyP50,
    LatencyP99,
    LatencyP999,
    CpuNanosPerOperation,
    Nanos,
    Bytes,
    BytesPerSecond,
    /// Of one processor.
    CpuPercent,
}

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

impl Measure {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::NanosPerOperation => "time per operation",
            Self::OperationsPerSecond => "operations per second",
            Self::MinShareOfMax => "fairness: smallest share / largest",
            Self::LatencyP50 => "time to get the lock, median",
            Self::LatencyP99 => "time to get the lock, 99 % are below",
            Self::LatencyP999 => "time to get the lock, 99.9 % are below",
            Self::CpuNanosPerOperation => "processor time per operation",
            Self::Nanos => "time",
            Self::Bytes => "memory",
            Self::BytesPerSecond => "throughput",
            Self::CpuPercent => "processor time",
        }
    }

    /// The unit of the values, as it stands in the CSV files.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::NanosPerOperation
            | Self::LatencyP50
            | Self::LatencyP99
            | Self::LatencyP999
            | Self::CpuNanosPerOperation
            | Self::Nanos => "ns",
            Self::OperationsPerSecond => "1/s",
            Self::MinShareOfMax => "",
            Self::Bytes => "B",
            Self::BytesPerSecond => "B/s",
            Self::CpuPercent => "%",
        }
    }

    /// Whether it is left to the files, because there would be too much to read.
    fn is_detail(self) -> bool {
        matches!(
            self,
            Self::LatencyP50 | Self::LatencyP99 | Self::LatencyP999 | Self::CpuNanosPerOperation
        )
    }

    pub(crate) fn better(self) -> Better {
        match self {
            Self::OperationsPerSecond | Self::MinShareOfMax | Self::BytesPerSecond => {
                Better::Higher
            }
            _ => Better::Lower,
        }
    }

    /// A value for people: three digits, and a unit of a fitting size.
    pub(crate) fn show(self, value: f64) -> String {
        let (value, unit) = self.scale(value);
        format!("{}{unit}", three_digits(value))
    }

    /// A round value for people: as few digits as it has.
    pub(crate) fn show_round(self, value: f64) -> String {
        let (value, unit) = self.scale(value);
        let digits = format!("{value:.2}");
        let digits = digits.trim_end_matches('0').trim_end_matches('.');
        format!("{digits}{unit}")
    }

    /// A value in a unit of a fitting size.
    fn scale(self, value: f64) -> (f64, &'static str) {
        const NANOS: &[(f64, &str)] = &[(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")];
        const RATE: &[(f64, &str)] = &[(1e6, " M/s"), (1e3, " k/s"), (1.0, " /s")];
        const BYTES: &[(f64, &str)] = &[(1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1.0, " B")];
        let units = match self.unit() {
            "ns" => NANOS,
            "1/s" => RATE,
            "B" => BYTES,
            "B/s" => &[
                (1e9, " GB/s"),
                (1e6, " MB/s"),
                (1e3, " kB/s"),
                (1.0, " B/s"),
            ],
            "%" => &[(1.0, " %")],
            _ => &[(1.0, "")],
        };
        let (size, unit) = units
            .iter()
            .find(|(size, _)| value.abs() >= *size * 0.9995)
            .or(units.last())
            .copied()
            .unwrap_or((1.0, ""));
        (value / size, unit)
    }
}

/// Three digits, of which none are dropped before the point.
pub(crate) fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0..100.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// How tables are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Terminal,
    Markdown,
}

impl Style {
    /// A table with these column titles. The first `words` columns hold words, the
    /// others numbers.
    pub(crate) fn table<T: Into<String>>(self, titles: Vec<T>, words: usize) -> Table {
        let mut table = Table::new();
        table.load_preset(match self {
            Self::Terminal => NOTHING,
            Self::Markdown => ASCII_MARKDOWN,
        });
        table.set_header(titles.into_iter().map(Into::into).collect::<Vec<String>>());
        for column in table.column_iter_mut().skip(words) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    pub(crate) fn heading(self, text: &str) -> String {
        match self {
            Self::Terminal => format!("\n{text}\n"),
            Self::Markdown => format!("\n### {text}\n\n"),
        }
    }
}

/// All tables of one workload. Ratios are against `baseline`. Details are only shown in
/// Markdown.
pub(crate) fn tables(series: &[Series], baseline: &str, style: Style) -> String {
    let mut text = String::new();
    for group in distinct(series.iter().map(|series| series.place().0)) {
        let members: Vec<&Series> = series
            .iter()
            .filter(|series| series.place().0 == group)
            .collect();
        for measure in distinct(members.iter().map(|series| series.measure)) {
            let of_measure: Vec<&Series> = members
                .iter()
                .copied()
                .filter(|series| series.measure == measure)
                .collect();
            if style == Style::Terminal && measure.is_detail() {
                continue;
            }
            let better = match measure.better() {
                Better::Lower => "lower",
                Better::Higher => "higher",
            };
            let title = format!("{group}: {}, {better} is better", measure.title());
            text += &style.heading(&title);
            let _ = writeln!(text, "{}", matrix(&of_measure, baseline, style));
        }
    }
    text
}

/// One row per contestant, one column per workload.
fn matrix(series: &[&Series], baseline: &str, style: Style) -> Table {
    let columns = distinct(series.iter().map(|series| series.place().1));
    let mut titles = vec!["contestant", "survives"];
    titles.extend(&columns);
    let mut table = style.table(titles, 2);
    for contestant in distinct(series.iter().map(|series| series.contestant)) {
        let cell = |column: &str, contestant: &str| {
            series
                .iter()
                .find(|s| s.place().1 == column && s.contestant == contestant)
        };
        let mut row = vec![contestant.to_owned(), String::new()];
        for column in &columns {
            let Some(own) = cell(column, contestant) else {
                row.push(String::new());
                continue;
            };
            row[1] = own.survives.word().to_owned();
            let base = cell(column, baseline).filter(|_| contestant != baseline);
            row.push(show(own, base.copied()));
        }
        table.add_row(row);
    }
    table
}

/// The median, its spread, and the ratio to the baseline.
fn show(series: &Series, base: Option<&Series>) -> String {
    let summary = Summary::of(&series.rounds);
    let mut text = series.measure.show(summary.median);
    let spread = summary.spread() * 100.0;
    if series.rounds.len() > 1 && spread.is_finite() {
        let _ = write!(text, " ±{spread:.0} %");
    }
    if let Some(base) = base {
        let ratio = median(&ratios(&series.rounds, &base.rounds));
        if ratio.is_finite() {
            let _ = write!(text, " ×{}", three_digits(ratio));
        }
    }
    text
}

/// Each value once, in order of appearance.
pub(crate) fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

/// The first line of [`csv`].
pub(crate) const CSV_TITLES: &str = "workload,contestant,survives,measure,unit,round,value\n";

/// One line per value. No name has a comma or a quotation mark in it.
pub(crate) fn csv(series: &[Series]) -> String {
    let mut text = String::new();
    for series in series {
        for (round, value) in series.rounds.iter().enumerate() {
            let _ = writeln!(
                text,
                "{},{},{},{:?},{},{round},{value}",
                series.workload,
                series.contestant,
                series.survives.word(),
                series.measure,
                series.measure.unit(),
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(workload: &str, contestant: &'static str, rounds: &[f64]) -> Series {
        Series {
            workload: workload.to_owned(),
            contestant,
            survives: Survives::Kills,
            measure: Measure::Nanos,
            rounds: rounds.to_vec(),
        }
    }

    #[test]
    fn smoke() {
        let all = [
            series("wait/2 processes", "a", &[10.0, 20.0, 30.0]),
            series("wait/2 processes", "b", &[20.0, 40.0, 60.0]),
            series("wait/4 processes", "b", &[5e3]),
        ];
        let text = tables(&all, "a", Style::Terminal);
        assert!(text.contains("wait: time, lower is better"), "{text}");
        assert!(text.contains("40.0 ns ±25 % ×2.00"), "{text}");
        assert!(text.contains("5.00 µs"), "{text}");
        assert_eq!(csv(&all).lines().count(), 7);
    }

    #[test]
    fn values_are_shown_in_units_of_their_size() {
        assert_eq!(Measure::Nanos.show(0.5), "0.50 ns");
        assert_eq!(Measure::Nanos.show(12_345.0), "12.3 µs");
        assert_eq!(Measure::OperationsPerSecond.show(2.5e6), "2.50 M/s");
        assert_eq!(Measure::MinShareOfMax.show(0.987), "0.99");
        assert_eq!(Measure::Nanos.show_round(2e3), "2 µs");
        assert_eq!(Measure::Nanos.show_round(0.1), "0.1 ns");
    }
}
