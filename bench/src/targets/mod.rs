//! Targets of this crate, and the values that this run measured.
//!
//! Ratios are medians of the ratios round by round.

mod family;
mod languages;
mod locks;
mod target;

pub(crate) use target::Target;

use self::target::Run;
use crate::series::{Series, three_digits};
use crate::tables::{Style, Table};

/// Returns the targets of all workloads that were measured.
pub(crate) fn evaluate(series: &[Series]) -> Vec<Target> {
    let run = Run(series);
    let mut targets = locks::evaluate(run);
    targets.extend(family::evaluate(run));
    targets.extend(languages::evaluate(run));
    targets
}

/// Returns the targets as a table.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{Measure, SHM_SYNC, Survives};

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
            series(SHM_SYNC, &[20.0, 40.0, 21.0]),
            series("pthread robust", &[20.0, 40.0, 20.0]),
            series("slow peer", &[90.0, 90.0, 90.0]),
            series("fast peer", &[10.0, 20.0, 10.0]),
        ];
        let targets = evaluate(&all);
        let met: Vec<bool> = targets.iter().map(Target::is_met).collect();
        assert_eq!(met, [true, false]);
        assert!(targets[1].what.contains("fast peer"), "{targets:?}");
    }

    #[test]
    fn no_series_give_no_targets() {
        assert!(evaluate(&[]).is_empty());
    }
}
