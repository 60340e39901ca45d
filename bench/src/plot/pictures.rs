//! The tables that become plots, and the sentence above each plot.

use super::axis::Axis;
use super::finding::Finding;
use crate::cell::Cell;
use crate::series::Measure;

/// A table that becomes a plot.
#[derive(Debug)]
pub(super) struct Picture {
    table: &'static str,
    /// The columns that are shown, in this order. Empty: all.
    columns: &'static [&'static str],
    measure: Measure,
    /// The measured quantity, for the name of the axis.
    quantity: &'static str,
    /// The contestant with the second colour, if it is not the baseline.
    peer: Option<&'static str>,
    /// Writes the title. `None` if a value that it states was not measured.
    title: fn(&Finding<'_>) -> Option<String>,
}

/// All plots. The columns with other sizes and quantiles are in the tables only.
pub(super) const ALL: &[Picture] = &[
    Picture {
        table: "uncontended",
        columns: &[],
        measure: Measure::NanosPerOperation,
        quantity: "time to lock, add one and unlock",
        peer: None,
        title: |finding| {
            let (ratio, peer) = (finding.ratio("")?, finding.peer);
            let lock = "shm-sync's uncontended lock";
            Some(format!("{lock} takes {ratio} times as long as {peer}"))
        },
    },
    contended("contended/short", |finding| throughput("short", finding)),
    contended("contended/medium", |finding| throughput("medium", finding)),
    contended("contended/long", |finding| throughput("long", finding)),
    Picture {
        table: "hand-over/two",
        columns: &["both running", "both asleep"],
        measure: Measure::NanosPerOperation,
        quantity: "time of a hand-over",
        peer: None,
        title: |finding| {
            let lead = "A hand-over between two running processes takes";
            medians(lead, "both running", finding, "")
        },
    },
    Picture {
        table: "recovery/next locker",
        columns: &["waits in lock()", "locks afterwards"],
        measure: Measure::Nanos,
        quantity: "time until the next process has locked",
        peer: None,
        title: |finding| {
            let lead = "After a kill, the next lock of a waiter takes";
            medians(lead, "waits in lock()", finding, "")
        },
    },
    Picture {
        table: "ipc/round trip",
        columns: &["8 B", "8 B on one processor", "64 KiB", "1 MiB"],
        measure: Measure::NanosPerOperation,
        quantity: "time of a round trip",
        peer: None,
        title: |finding| {
            let apart = medians("A round trip of 8 B takes", "8 B", finding, "a ")?;
            let (own, other) = finding.values("8 B on one processor")?;
            Some(format!("{apart}; on one processor {own} and {other}"))
        },
    },
    Picture {
        table: "ipc/throughput",
        columns: &["8 B", "1 KiB", "64 KiB", "1 MiB"],
        measure: Measure::BytesPerSecond,
        quantity: "throughput",
        peer: Some("Unix stream socket"),
        title: |finding| medians("Messages of 1 MiB flow at", "1 MiB", finding, "a "),
    },
];

const fn contended(table: &'static str, title: fn(&Finding<'_>) -> Option<String>) -> Picture {
    Picture {
        table,
        columns: &[],
        measure: Measure::OperationsPerSecond,
        quantity: "operations per second",
        peer: None,
        title,
    }
}

/// Returns a sentence with the range of the ratios over all numbers of processes.
fn throughput(section: &str, finding: &Finding<'_>) -> Option<String> {
    let (smallest, largest) = finding.ratios()?;
    let range = if smallest == largest {
        smallest
    } else {
        format!("{smallest} to {largest}")
    };
    Some(format!(
        "With {section} sections shm-sync does {range} times as many operations as {}",
        finding.peer
    ))
}

/// Returns a sentence with the medians of a column. `lead` begins it.
fn medians(lead: &str, column: &str, finding: &Finding<'_>, article: &str) -> Option<String> {
    let (own, other) = finding.values(column)?;
    let peer = finding.peer;
    Some(format!(
        "{lead} {own} with shm-sync and {other} with {article}{peer}"
    ))
}

impl Picture {
    /// Returns the contestant with the second colour.
    pub(super) fn peer<'a>(&self, baseline: &'a str) -> &'a str {
        self.peer.unwrap_or(baseline)
    }

    pub(super) fn file(&self) -> String {
        format!("{}.svg", self.table.replace([' ', '/'], "-"))
    }

    /// Returns the cells of this plot, column by column, if it is one of the workload.
    pub(super) fn cells<'a>(&self, workload: &str, cells: &'a [Cell]) -> Vec<&'a Cell> {
        if self.table.split('/').next() != Some(workload) {
            return vec![];
        }
        let own = |cell: &&Cell| cell.table() == self.table && cell.measure == self.measure;
        let own = || cells.iter().filter(own);
        if self.columns.is_empty() {
            return own().collect();
        }
        let columns = self.columns.iter();
        columns
            .flat_map(|column| own().filter(move |cell| cell.column() == *column))
            .collect()
    }

    /// Returns the sentence, or what was measured if shm-sync or its peer was not.
    pub(super) fn title(&self, finding: &Finding<'_>) -> String {
        (self.title)(finding).unwrap_or_else(|| format!("{}: {}", self.table, self.quantity))
    }

    pub(super) fn axis(&self) -> Axis {
        Axis {
            quantity: self.quantity,
            measure: self.measure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Series, Survives};

    fn series(workload: &str, contestant: &'static str, measure: Measure, value: f64) -> Series {
        Series {
            workload: workload.to_owned(),
            contestant,
            survives: Survives::Kills,
            measure,
            rounds: vec![value],
        }
    }

    /// Returns the titles of all plots of a workload.
    fn titles(workload: &str, peer: &str, series: &[Series]) -> Vec<String> {
        let cells = Cell::all(series, peer);
        let pictures = ALL.iter().map(|picture| {
            let cells = picture.cells(workload, &cells);
            let finding = Finding::new(&cells, picture.peer(peer));
            (!cells.is_empty()).then(|| picture.title(&finding))
        });
        pictures.flatten().collect()
    }

    #[test]
    fn title_states_the_ratio_of_the_table() {
        let at = |contestant, value| {
            series("uncontended", contestant, Measure::NanosPerOperation, value)
        };
        let all = [at("shm-sync", 30.0), at("robust", 40.0)];
        assert_eq!(
            titles("uncontended", "robust", &all),
            ["shm-sync's uncontended lock takes 0.75 times as long as robust"]
        );
    }

    #[test]
    fn title_states_the_range_of_ratios() {
        let at = |count: u32, contestant, value| {
            let workload = format!("contended/short/{count} processes");
            series(&workload, contestant, Measure::OperationsPerSecond, value)
        };
        let all = [
            at(2, "shm-sync", 3e6),
            at(2, "robust", 2e6),
            at(4, "shm-sync", 1e6),
            at(4, "robust", 2e6),
        ];
        assert_eq!(
            titles("contended", "robust", &all),
            ["With short sections shm-sync does 0.50 to 1.50 times as many operations as robust"]
        );
    }

    #[test]
    fn title_states_both_medians() {
        let at = |column: &str, contestant, value| {
            let workload = format!("ipc/round trip/{column}");
            series(&workload, contestant, Measure::NanosPerOperation, value)
        };
        let all = [
            at("1 MiB", "shm-sync", 5e5),
            at("8 B", "shm-sync", 1_250.0),
            at("8 B", "pipe", 12_500.0),
            at("8 B on one processor", "shm-sync", 2_000.0),
            at("8 B on one processor", "pipe", 1_000.0),
        ];
        let sentence = "A round trip of 8 B takes 1.25 µs with shm-sync and 12.5 µs with a pipe; \
             on one processor 2.00 µs and 1.00 µs";
        assert_eq!(titles("ipc", "pipe", &all), [sentence]);
    }

    #[test]
    fn title_without_the_peer_names_the_table() {
        let all = [series(
            "uncontended",
            "shm-sync",
            Measure::NanosPerOperation,
            30.0,
        )];
        assert_eq!(
            titles("uncontended", "robust", &all),
            ["uncontended: time to lock, add one and unlock"]
        );
    }
}
