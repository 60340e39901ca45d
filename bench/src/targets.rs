//! What is aimed at, and what this run measured.
//!
//! Ratios are medians of the ratios round by round. What is compared over several
//! cells (numbers of processes times sections) is the geometric mean of the cells'
//! ratios. Crash-safe contestants are those that survive every kill.

use std::fmt;

use comfy_table::Table;

use crate::report::{Measure, Series, Style, Survives, distinct, three_digits};
use crate::stats::{geometric_mean, median, ratios};
use crate::workloads::contended::{self, Section};

const OURS: &str = "shm-sync";
const PLAIN: &str = "pthread plain";
const ROBUST: &str = "pthread robust";

/// What is aimed at, and what was measured.
#[derive(Debug)]
pub(crate) struct Target {
    what: String,
    bound: Bound,
    measured: f64,
    unit: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum Bound {
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
    /// A ratio, if it was measured.
    fn ratio(what: impl Into<String>, bound: Bound, measured: Option<f64>) -> Option<Self> {
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

/// The targets of all workloads that were measured.
pub(crate) fn judge(series: &[Series]) -> Vec<Target> {
    let run = Run(series);
    let mut targets = vec![];
    targets.extend(uncontended(run));
    targets.extend(contended(run));
    targets.extend(hand_over(run));
    targets.extend(recovery(run));
    targets.extend(idle(run));
    targets
}

/// The targets as a table.
pub(crate) fn table(targets: &[Target], style: Style) -> Table {
    let mut table = style.table(vec!["target", "wanted", "measured", ""], 2);
    for target in targets {
        table.add_row([
            target.what.clone(),
            format!("{}{}", target.bound, target.unit),
            format!("{}{}", three_digits(target.measured), target.unit),
            if target.is_met() { "met" } else { "MISSED" }.to_owned(),
        ]);
    }
    table
}

fn uncontended(run: Run<'_>) -> Vec<Target> {
    let at =
        |contestant: &str| run.ratio("uncontended", Measure::NanosPerOperation, OURS, contestant);
    // The raw mutex is what ours is made of, and has a target of its own.
    let closest = run
        .crash_safe("uncontended")
        .into_iter()
        .filter(|contestant| !contestant.starts_with("pthread"))
        .filter_map(|contestant| Some((at(contestant)?, contestant)))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    [
        Target::ratio(
            "uncontended: time / raw robust mutex",
            Bound::AtMost(1.05),
            at(ROBUST),
        ),
        closest.and_then(|(ratio, peer)| {
            Target::ratio(
                format!("uncontended: time / closest crash-safe peer ({peer})"),
                Bound::Below(1.0),
                Some(ratio),
            )
        }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Over 2, 4 and 8 processes, and all sections.
fn contended(run: Run<'_>) -> Vec<Target> {
    let cells: Vec<String> = Section::ALL
        .into_iter()
        .flat_map(|section| [2, 4, 8].map(|workers| contended::name(section, workers)))
        .collect();
    let ratios_to = |measure: Measure, contestant: &str| -> Option<Vec<f64>> {
        let ratio = |cell: &String| run.ratio(cell, measure, OURS, contestant);
        cells.iter().map(ratio).collect()
    };
    let speed = |contestant: &str| ratios_to(Measure::OperationsPerSecond, contestant);
    let best = run
        .crash_safe(&cells[0])
        .into_iter()
        .filter_map(|contestant| Some((geometric_mean(speed(contestant)?), contestant)))
        .min_by(|a, b| a.0.total_cmp(&b.0));
    let worst_cell = speed(ROBUST).and_then(|ratios| {
        ratios
            .into_iter()
            .zip(&cells)
            .min_by(|a, b| a.0.total_cmp(&b.0))
    });
    let fairness = |contestant: &str| -> Option<f64> {
        let cell = |cell: &String| run.median(cell, Measure::MinShareOfMax, contestant);
        let all: Vec<f64> = cells.iter().map(cell).collect::<Option<_>>()?;
        Some(all.iter().sum::<f64>() / all.len() as f64)
    };
    let fairness = fairness(OURS)
        .zip(fairness(ROBUST))
        .map(|(ours, robust)| ours / robust);
    [
        best.and_then(|(ratio, peer)| {
            Target::ratio(
                format!("contended: throughput / best crash-safe contestant ({peer})"),
                Bound::AtLeast(1.2),
                Some(ratio),
            )
        }),
        Target::ratio(
            "contended: throughput / raw mutex without robustness",
            Bound::AtLeast(1.0),
            speed(PLAIN).map(geometric_mean),
        ),
        worst_cell.and_then(|(ratio, cell)| {
            Target::ratio(
                format!("{cell}, the worst cell: throughput / raw robust mutex"),
                Bound::AtLeast(0.9),
                Some(ratio),
            )
        }),
        Target::ratio(
            "contended: mean fairness / that of the raw robust mutex",
            Bound::AtLeast(1.0),
            fairness,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn hand_over(run: Run<'_>) -> Vec<Target> {
    let ratio = |workload: &str, over: &str, under: &str| {
        run.ratio(workload, Measure::NanosPerOperation, over, under)
    };
    [
        Target::ratio(
            "hand-over, both running: time of pthread_cond / ours",
            Bound::AtLeast(20.0),
            ratio("hand-over/two/both running", ROBUST, OURS),
        ),
        Target::ratio(
            "hand-over, both asleep: time / pthread_cond",
            Bound::AtMost(1.0),
            ratio("hand-over/two/both asleep", OURS, ROBUST),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn recovery(run: Run<'_>) -> Option<Target> {
    let workload = "recovery/the next one/sleeps in lock()";
    Some(Target {
        what: "recovery: from SIGKILL to the next lock, median".to_owned(),
        bound: Bound::Below(100.0),
        measured: run.median(workload, Measure::Nanos, OURS)? / 1e3,
        unit: " µs",
    })
}

fn idle(run: Run<'_>) -> Vec<Target> {
    ["in lock()", "in wait()"]
        .into_iter()
        .filter_map(|sleeps| {
            let workload = format!("idle/asleep/{sleeps}");
            Some(Target {
                what: format!("idle {sleeps}: of a processor, each"),
                bound: Bound::Below(0.1),
                measured: run.median(&workload, Measure::CpuPercent, OURS)?,
                unit: " %",
            })
        })
        .collect()
}

/// All that was measured.
#[derive(Clone, Copy)]
struct Run<'a>(&'a [Series]);

impl<'a> Run<'a> {
    fn find(self, workload: &str, measure: Measure, contestant: &str) -> Option<&'a Series> {
        self.0.iter().find(|series| {
            series.workload == workload
                && series.measure == measure
                && series.contestant == contestant
        })
    }

    fn median(self, workload: &str, measure: Measure, contestant: &str) -> Option<f64> {
        Some(median(&self.find(workload, measure, contestant)?.rounds))
    }

    /// How two contestants compare, if both were there.
    fn ratio(self, workload: &str, measure: Measure, over: &str, under: &str) -> Option<f64> {
        let over = self.find(workload, measure, over)?;
        let under = self.find(workload, measure, under)?;
        Some(median(&ratios(&over.rounds, &under.rounds)))
    }

    /// The others in a workload that survive all kills.
    fn crash_safe(self, workload: &str) -> Vec<&'static str> {
        let safe = self.0.iter().filter(|series| {
            series.workload == workload
                && series.survives == Survives::Kills
                && series.contestant != OURS
        });
        distinct(safe.map(|series| series.contestant))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(contestant: &'static str, rounds: &[f64]) -> Series {
        Series {
            workload: "uncontended".to_owned(),
            contestant,
            survives: Survives::Kills,
            measure: Measure::NanosPerOperation,
            rounds: rounds.to_vec(),
        }
    }

    #[test]
    fn smoke() {
        let all = [
            series(OURS, &[20.0, 40.0, 21.0]),
            series(ROBUST, &[20.0, 40.0, 20.0]),
            series("slow peer", &[90.0, 90.0, 90.0]),
            series("fast peer", &[10.0, 20.0, 10.0]),
        ];
        let targets = judge(&all);
        let met: Vec<bool> = targets.iter().map(Target::is_met).collect();
        assert_eq!(met, [true, false]);
        assert!(targets[1].what.contains("fast peer"), "{targets:?}");
    }

    #[test]
    fn what_was_not_measured_has_no_target() {
        assert!(judge(&[]).is_empty());
    }
}
