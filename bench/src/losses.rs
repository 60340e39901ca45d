//! Workloads in which another contestant is better than shm-sync.

use crate::series::{Better, SHM_SYNC, Series, distinct, is_reference, three_digits};
use crate::stats::{median, ratios};
use crate::tables::{Style, Table};

/// Smaller advantages are not listed, because two builds of the same code differ by as
/// much.
const LISTED_FROM: f64 = 1.1;

/// A column of a table in which another contestant is the best.
#[derive(Debug)]
pub(crate) struct Loss<'a> {
    best: &'a Series,
    /// How many times better the best contestant is: at least [`LISTED_FROM`].
    factor: f64,
}

/// Returns the columns in which shm-sync is not the best, with their best contestant.
/// Details, the variants of shm-sync and references are left out.
pub(crate) fn find(series: &[Series]) -> Vec<Loss<'_>> {
    let columns = distinct(
        series
            .iter()
            .filter(|series| !series.measure.is_detail())
            .map(|series| (series.workload.as_str(), series.measure)),
    );
    columns
        .into_iter()
        .filter_map(|(workload, measure)| {
            let column = || {
                let all = series.iter();
                all.filter(move |s| s.workload == workload && s.measure == measure)
            };
            let shm_sync = column().find(|s| s.contestant == SHM_SYNC)?;
            let factor = |other: &Series| match measure.better() {
                Better::Lower => median(&ratios(&shm_sync.rounds, &other.rounds)),
                Better::Higher => median(&ratios(&other.rounds, &shm_sync.rounds)),
            };
            column()
                .filter(|other| !other.contestant.starts_with(SHM_SYNC))
                .filter(|other| !is_reference(other.contestant))
                .map(|best| Loss {
                    best,
                    factor: factor(best),
                })
                .filter(|loss| loss.factor.is_finite() && loss.factor >= LISTED_FROM)
                .max_by(|a, b| a.factor.total_cmp(&b.factor))
        })
        .collect()
}

/// Returns the losses as a table.
pub(crate) fn table(losses: &[Loss<'_>], style: Style) -> Table {
    let titles = vec![
        "workload",
        "measure",
        "best contestant",
        "survives",
        "times better",
    ];
    let mut table = style.table(titles, 4);
    for Loss { best, factor } in losses {
        table.add_row([
            &best.workload,
            best.measure.title(),
            best.contestant,
            best.survives.label(),
            &three_digits(*factor),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{FUTEX_IN_TWO_LINES, Measure, Survives};

    #[test]
    fn best_contestant_of_a_column_is_listed() {
        let series = |workload: &str, contestant, measure, value: f64| Series {
            workload: workload.to_owned(),
            contestant,
            survives: Survives::Nothing,
            measure,
            rounds: vec![value; 3],
        };
        let all = [
            series("lost/a", SHM_SYNC, Measure::Nanos, 4.0),
            series("lost/a", "second", Measure::Nanos, 2.0),
            series("lost/a", "best", Measure::Nanos, 1.0),
            series("lost/a", FUTEX_IN_TWO_LINES, Measure::Nanos, 0.5),
            series("lost/b", SHM_SYNC, Measure::OperationsPerSecond, 1.0),
            series("lost/b", "fast", Measure::OperationsPerSecond, 3.0),
            series(
                "lost/b",
                "shm-sync variant",
                Measure::OperationsPerSecond,
                9.0,
            ),
            series("won/a", SHM_SYNC, Measure::Nanos, 1.0),
            series("won/a", "slow", Measure::Nanos, 2.0),
            series("detail/a", SHM_SYNC, Measure::LatencyP99, 2.0),
            series("detail/a", "fast", Measure::LatencyP99, 1.0),
        ];
        let losses = find(&all);
        let found: Vec<_> = losses
            .iter()
            .map(|loss| (loss.best.contestant, loss.factor))
            .collect();
        assert_eq!(found, [("best", 4.0), ("fast", 3.0)]);
    }
}
