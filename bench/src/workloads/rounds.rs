//! Measurement round by round, in which the contestants alternate.

use crate::failure::Failure;
use crate::plan::{Plan, order_in_round};
use crate::progress::Progress;
use crate::series::{Measure, Series, Survives};

/// One contestant in one workload.
pub(super) struct Entry {
    /// The name of the workload without its last part.
    pub(super) workload: String,
    pub(super) contestant: &'static str,
    pub(super) survives: Survives,
    /// The last part of the name and the measure, for each value of a round.
    pub(super) columns: Vec<(&'static str, Measure)>,
    /// Measures a round and returns one value for each column. The compiler specialises
    /// the measured loop inside for the contestant. The virtual call happens once per
    /// round.
    pub(super) round: Box<dyn FnMut() -> Result<Vec<f64>, Failure>>,
}

/// An entry and its values.
struct Row {
    entry: Entry,
    /// By column, then by round.
    values: Vec<Vec<f64>>,
    /// `true` if this machine lacks something that the contestant needs.
    is_unavailable: bool,
}

impl Row {
    fn new(entry: Entry) -> Self {
        Self {
            values: vec![Vec::new(); entry.columns.len()],
            entry,
            is_unavailable: false,
        }
    }

    fn has_columns_of(&self, other: &Self) -> bool {
        self.entry.workload == other.entry.workload && self.entry.columns == other.entry.columns
    }

    fn measure(&mut self, progress: &Progress) -> Result<(), Failure> {
        if self.is_unavailable {
            return Ok(());
        }
        let name = format!("{}: {}", self.entry.workload, self.entry.contestant);
        progress.step(&name)?;
        match (self.entry.round)() {
            Ok(values) => {
                for (all, value) in self.values.iter_mut().zip(values) {
                    all.push(value);
                }
                Ok(())
            }
            Err(why @ Failure::Unavailable(_)) => {
                progress.left_out(&name, &why);
                self.is_unavailable = true;
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    fn into_series(self) -> impl Iterator<Item = Series> {
        let Self { entry, values, .. } = self;
        let columns = entry.columns.into_iter().zip(values);
        columns.map(move |((column, measure), rounds)| Series {
            workload: format!("{}/{column}", entry.workload),
            contestant: entry.contestant,
            survives: entry.survives,
            measure,
            rounds,
        })
    }
}

/// Measures `rounds` rounds of all entries that take part. Adjacent entries with the
/// same columns run directly after each other, in an order that changes from round to
/// round.
pub(super) fn run_rounds(
    plan: &Plan,
    label: &'static str,
    mut entries: Vec<Entry>,
    rounds: usize,
    progress: &Progress,
) -> Result<Vec<Series>, Failure> {
    entries.retain(|entry| plan.includes(entry.contestant));
    progress.begin(label, rounds * entries.len());
    let mut rows: Vec<Row> = entries.into_iter().map(Row::new).collect();
    for round in 0..rounds {
        for rivals in rows.chunk_by_mut(Row::has_columns_of) {
            for index in order_in_round(round, rivals.len()) {
                rivals[index].measure(progress)?;
            }
        }
    }
    rows.retain(|row| !row.is_unavailable);
    Ok(rows.into_iter().flat_map(Row::into_series).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn entries_alternate_and_unavailable_is_left_out() {
        let order = Rc::new(RefCell::new(String::new()));
        let entry = |workload: &str, contestant, is_available: bool| Entry {
            workload: workload.to_owned(),
            contestant,
            survives: Survives::Nothing,
            columns: vec![("column", Measure::Nanos)],
            round: Box::new({
                let order = Rc::clone(&order);
                move || {
                    order.borrow_mut().push_str(contestant);
                    if !is_available {
                        return Err(Failure::Unavailable("this is a test".to_owned()));
                    }
                    Ok(vec![order.borrow().len() as f64])
                }
            }),
        };
        let entries = vec![
            entry("x", "a", true),
            entry("x", "b", true),
            entry("y", "c", true),
            entry("y", "d", false),
        ];
        let plan = Plan::new(true);
        let series = run_rounds(&plan, "a test", entries, 3, &Progress::new()).unwrap();
        assert_eq!(*order.borrow(), "abcdbacbac");
        let contestants: Vec<_> = series.iter().map(|series| series.contestant).collect();
        assert_eq!(contestants, ["a", "b", "c"]);
        assert_eq!(series[0].workload, "x/column");
        assert_eq!(series[0].rounds, [1.0, 6.0, 9.0]);
    }
}
