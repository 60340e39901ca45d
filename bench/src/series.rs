//! Series of measured values.
//!
//! The name of a workload has parts that `/` separates. Its last part is the column of
//! a table, and the others are the table: `contended/short/2 processes` and
//! `contended/short/4 processes` are columns of one table.

use serde::{Deserialize, Serialize};

/// The contestant that all workloads are about.
pub(crate) const SHM_SYNC: &str = "shm-sync";

/// The C header of this crate, as a contestant.
pub(crate) const SHM_SYNC_H: &str = "shm_sync.h";

/// Exchanges of a lock word with the stores of a robust list.
pub(crate) const LIST_STORES: &str = "stores of a robust list";

/// A futex lock whose number is in another cache line.
pub(crate) const FUTEX_IN_TWO_LINES: &str = "futex in two cache lines";

/// The same with the stores of a robust list.
pub(crate) const LISTED_FUTEX: &str = "futex in two cache lines, robust list";

/// The condition variable of libc with timed waits.
pub(crate) const TIMED_PTHREAD: &str = "pthread robust, timed";

/// Returns whether a contestant only shows what a part of a lock costs.
pub(crate) fn is_reference(contestant: &str) -> bool {
    [LIST_STORES, FUTEX_IN_TWO_LINES, LISTED_FUTEX, TIMED_PTHREAD].contains(&contestant)
}

/// Returns whether a contestant is this crate, a variant of it or its C header.
pub(crate) fn is_own(contestant: &str) -> bool {
    contestant.starts_with(SHM_SYNC) || contestant.starts_with(SHM_SYNC_H)
}

/// The values of one contestant in one workload, one per round. Rounds with the same
/// index ran next to each other.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// The name, such as `contended/short/4 processes`.
    pub(crate) workload: String,
    pub(crate) contestant: &'static str,
    pub(crate) survives: Survives,
    pub(crate) measure: Measure,
    pub(crate) rounds: Vec<f64>,
}

impl Series {
    /// Returns the table that shows this series, and its column in the table.
    pub(crate) fn table_and_column(&self) -> (&str, &str) {
        table_and_column(&self.workload)
    }
}

/// Splits the name of a workload into its table and its column.
pub(crate) fn table_and_column(workload: &str) -> (&str, &str) {
    workload.rsplit_once('/').unwrap_or((workload, ""))
}

/// Kills of a process that uses the contestant, after which the others can continue.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum Survives {
    /// Kills at every instruction.
    #[serde(rename = "kills")]
    Kills,
    /// Kills at some instructions.
    #[serde(rename = "some kills")]
    SomeKills,
    /// No kill: the others wait forever or fail forever.
    #[serde(rename = "nothing")]
    Nothing,
    /// There are no other processes, or they share nothing.
    #[serde(rename = "-")]
    DoesNotApply,
}

impl Survives {
    /// Returns the text in tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Kills => "kills",
            Self::SomeKills => "some kills",
            Self::Nothing => "nothing",
            Self::DoesNotApply => "-",
        }
    }
}

/// The quantity that a series measures.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(crate) enum Measure {
    NanosPerOperation,
    OperationsPerSecond,
    /// Operations of the least busy worker, relative to those of the busiest.
    MinShareOfMax,
    LatencyP50,
    LatencyP99,
    LatencyP999,
    CpuNanosPerOperation,
    Nanos,
    Bytes,
    BytesPerSecond,
    /// Relative to one processor.
    CpuPercent,
    /// How often a processor went on to another thread, per operation.
    Switches,
}

/// The better one of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Lower,
    Higher,
}

impl Better {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Lower => "lower",
            Self::Higher => "higher",
        }
    }
}

impl Measure {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::NanosPerOperation => "time per operation",
            Self::OperationsPerSecond => "operations per second",
            Self::MinShareOfMax => "fairness: least busy / busiest",
            Self::LatencyP50 => "time to lock, median",
            Self::LatencyP99 => "time to lock, 99 % are below",
            Self::LatencyP999 => "time to lock, 99.9 % are below",
            Self::CpuNanosPerOperation => "processor time per operation",
            Self::Nanos => "time",
            Self::Bytes => "memory",
            Self::BytesPerSecond => "throughput",
            Self::CpuPercent => "processor time",
            Self::Switches => "context switches per operation",
        }
    }

    /// Returns the unit of the values, as in the CSV file.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::NanosPerOperation
            | Self::LatencyP50
            | Self::LatencyP99
            | Self::LatencyP999
            | Self::CpuNanosPerOperation
            | Self::Nanos => "ns",
            Self::OperationsPerSecond => "1/s",
            Self::MinShareOfMax | Self::Switches => "",
            Self::Bytes => "B",
            Self::BytesPerSecond => "B/s",
            Self::CpuPercent => "%",
        }
    }

    /// Returns whether tables of this measure are only written to the report.
    pub(crate) fn is_detail(self) -> bool {
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

    /// Formats a value with three digits and a unit of suitable size.
    pub(crate) fn show(self, value: f64) -> String {
        let (size, unit) = self.unit_for(value);
        let space = if unit.is_empty() { "" } else { " " };
        format!("{}{space}{unit}", three_digits(value / size))
    }

    /// Returns a unit of suitable size for `value`: its size and its name.
    pub(crate) fn unit_for(self, value: f64) -> (f64, &'static str) {
        const NANOS: &[(f64, &str)] = &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")];
        const RATE: &[(f64, &str)] = &[(1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")];
        const BYTES: &[(f64, &str)] = &[(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")];
        const BYTE_RATE: &[(f64, &str)] =
            &[(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")];
        let units = match self.unit() {
            "ns" => NANOS,
            "1/s" => RATE,
            "B" => BYTES,
            "B/s" => BYTE_RATE,
            "%" => &[(1.0, "%")],
            _ => &[(1.0, "")],
        };
        units
            .iter()
            .find(|(size, _)| value.abs() >= *size * 0.9995)
            .or(units.last())
            .copied()
            .unwrap_or((1.0, ""))
    }
}

/// Formats a value with three digits, or more if its integer part has more.
pub(crate) fn three_digits(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0..100.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// Returns each value once, in order of first appearance.
pub(crate) fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn show_uses_suitable_units() {
        assert_eq!(Measure::Nanos.show(0.5), "0.50 ns");
        assert_eq!(Measure::Nanos.show(12_345.0), "12.3 µs");
        assert_eq!(Measure::OperationsPerSecond.show(2.5e6), "2.50 M/s");
        assert_eq!(Measure::MinShareOfMax.show(0.987), "0.99");
    }
}
