//! Contestants take turns, round by round.

use crate::failure::Failure;
use crate::plan::{Progress, turns};
use crate::report::{Measure, Series, Survives};

/// One contestant in one workload.
pub(super) struct Entry {
    /// The workload, without its last part.
    pub(super) workload: String,
    pub(super) contestant: &'static str,
    pub(super) survives: Survives,
    /// What a round measures, and the last part of the workload's name for it.
    pub(super) columns: Vec<(&'static str, Measure)>,
    /// Measures a round: one value for each column. The loop inside is compiled for the
    /// contestant; this call is made once a round.
    pub(super) round: Box<dyn FnMut() -> Result<Vec<f64>, Failure>>,
}

/// An entry, and the values so far.
struct Row {
    entry: Entry,
    /// By column, then by round.
    values: Vec<Vec<f64>>,
    /// Not on this machine.
    is_out: bool,
}

impl Row {
    fn of(entry: Entry) -> Self {
        Self {
            values: vec![Vec::new(); entry.columns.len()],
            entry,
            is_out: false,
        }
    }

    fn is_rival_of(&self, other: &Self) -> bool {
        self.entry.workload == other.entry.workload && self.entry.columns == other.entry.columns
    }

    fn round(&mut self, progress: &Progress) -> Result<(), Failure> {
        if self.is_out {
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
            Err(why @ Failure::NotHere(_)) => {
                progress.left_out(&name, &why);
                self.is_out = true;
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

/// Measures `rounds` rounds of all entries. Those who do the same, and stand next to each
/// other, run directly after each other.
pub(super) fn take_turns(
    label: &'static str,
    entries: Vec<Entry>,
    rounds: usize,
    progress: &Progress,
) -> Result<Vec<Series>, Failure> {
    progress.begin(label, rounds * entries.len());
    let mut rows: Vec<Row> = entries.into_iter().map(Row::of).collect();
    for round in 0..rounds {
        for rivals in rows.chunk_by_mut(Row::is_rival_of) {
            for turn in turns(round, rivals.len()) {
                rivals[turn].round(progress)?;
            }
        }
    }
    rows.retain(|row| !row.is_out);
    Ok(rows.into_iter().flat_map(Row::into_series).collect())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn rivals_take_turns_and_who_is_not_here_is_left_out() {
        let order = Rc::new(RefCell::new(String::new()));
        let entry = |workload: &str, contestant, is_here: bool| Entry {
            workload: workload.to_owned(),
            contestant,
            survives: Survives::Nothing,
            columns: vec![("column", Measure::Nanos)],
            round: Box::new({
                let order = Rc::clone(&order);
                move || {
                    order.borrow_mut().push_str(contestant);
                    if !is_here {
                        return Err(Failure::NotHere("this is a test".to_owned()));
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
        let series = take_turns("a test", entries, 3, &Progress::new()).unwrap();
        assert_eq!(*order.borrow(), "abcdbacbac");
        let contestants: Vec<_> = series.iter().map(|series| series.contestant).collect();
        assert_eq!(contestants, ["a", "b", "c"]);
        assert_eq!(series[0].workload, "x/column");
        assert_eq!(series[0].rounds, [1.0, 6.0, 9.0]);
    }
}
