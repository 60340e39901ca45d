//! The values of two programs, round by round.

use crate::cell::Cell;
use crate::series::{Better, Measure};
use crate::stats::{Interval, median, ratios};
use crate::tables::{Style, Table};

/// A cell that both programs have measured.
#[derive(Debug)]
struct Pair {
    /// The cell of a round, for its name.
    cell: Cell,
    /// One value per round, as in `new`.
    old: Vec<f64>,
    new: Vec<f64>,
}

/// The cells that both programs have measured.
#[derive(Debug, Default)]
pub(super) struct Pairs(Vec<Pair>);

impl Pairs {
    /// Adds the cells of the old and the new program in a round. A cell that only one
    /// program has is left out.
    pub(super) fn add(&mut self, [old, new]: [Vec<Cell>; 2]) {
        for new in new {
            let Some(old) = old.iter().find(|old| is_same(old, &new)) else {
                continue;
            };
            let values = (old.median, new.median);
            let index = self.0.iter().position(|pair| is_same(&pair.cell, &new));
            let index = index.unwrap_or_else(|| {
                self.0.push(Pair {
                    cell: new,
                    old: vec![],
                    new: vec![],
                });
                self.0.len() - 1
            });
            self.0[index].old.push(values.0);
            self.0[index].new.push(values.1);
        }
    }

    /// Returns a table with one row per cell.
    pub(super) fn table(&self, style: Style) -> Table {
        let titles = vec![
            "workload",
            "cell",
            "contestant",
            "measure",
            "old",
            "new",
            "new / old",
            "",
        ];
        let mut table = style.table(titles, 4);
        for Pair { cell, old, new } in &self.0 {
            let ratios = ratios(new, old);
            let interval = Interval::new(&ratios);
            let three_decimals = |ratio: f64| format!("{ratio:.3}");
            let ratio = match median(&ratios) {
                ratio if ratio.is_finite() => {
                    format!("{ratio:.3} {}", interval.show(three_decimals))
                }
                _ => "-".to_owned(),
            };
            table.add_row([
                cell.table(),
                cell.column(),
                &cell.contestant,
                cell.measure.title(),
                &cell.measure.show(median(old)),
                &cell.measure.show(median(new)),
                ratio.trim_end(),
                verdict(cell.measure, interval),
            ]);
        }
        table
    }
}

/// Returns whether two cells have the same place in the tables.
fn is_same(a: &Cell, b: &Cell) -> bool {
    a.workload == b.workload && a.contestant == b.contestant && a.measure == b.measure
}

/// Returns "better" or "worse" if the interval of the ratio of new to old excludes 1.
fn verdict(measure: Measure, ratio: Interval) -> &'static str {
    let (is_lower, is_higher) = (ratio.high < 1.0, ratio.low > 1.0);
    match (is_lower, is_higher, measure.better()) {
        (true, _, Better::Lower) | (_, true, Better::Higher) => "better",
        (true, _, Better::Higher) | (_, true, Better::Lower) => "worse",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::series::{SHM_SYNC, Series, Survives};

    fn cells(nanos: f64, per_second: f64, names: &[&str]) -> Vec<Cell> {
        let series = |&name: &&str| {
            let values = [
                (Measure::Nanos, nanos),
                (Measure::OperationsPerSecond, per_second),
            ];
            values.map(|(measure, value)| Series {
                workload: name.to_owned(),
                contestant: SHM_SYNC,
                survives: Survives::Kills,
                measure,
                rounds: vec![value],
            })
        };
        let series: Vec<Series> = names.iter().flat_map(series).collect();
        Cell::all(&series, "")
    }

    #[test]
    fn smoke() {
        let mut pairs = Pairs::default();
        for round in 0..6 {
            let noise = f64::from(round) / 100.0;
            pairs.add([
                cells(10.0, 100.0 + noise, &["a/b", "only old"]),
                cells(20.0 + noise, 300.0, &["only new", "a/b"]),
            ]);
        }
        let table = pairs.table(Style::Markdown).to_string();
        let rows: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| a | b | shm-sync | time | 10.0 ns | 20.0 ns | 2.002 [2.000–2.005] | worse |",
                "| a | b | shm-sync | operations per second | 100 /s | 300 /s | 2.999 [2.999–3.000] | better |",
            ]
        );
    }

    #[test]
    fn verdict_needs_an_interval_without_one() {
        let interval = |low, high| Interval {
            low,
            high,
            values: 7,
        };
        assert_eq!(verdict(Measure::Nanos, interval(0.9, 1.1)), "");
        assert_eq!(verdict(Measure::Nanos, interval(0.8, 0.9)), "better");
        assert_eq!(verdict(Measure::Nanos, interval(f64::NAN, f64::NAN)), "");
        let rate = Measure::OperationsPerSecond;
        assert_eq!(verdict(rate, interval(0.8, 0.9)), "worse");
    }
}
